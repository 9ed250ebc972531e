"""Kernels of other languages: the specifications that are installed in the sandbox's image, as programs to execute.

Found by ``jupyter_client``'s KernelSpecManager in the places Jupyter looks, the user's own first. Everything here is
blocking file work.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import Any, Final

from appliance.runtime.interpreter import languages
from appliance.runtime.interpreter.kernels import KernelError
from appliance.runtime.users import User

_PYTHON: Final = re.compile(r"python(3(\.\d+)?)?")


@dataclass(frozen=True)
class Program:
    """An installed kernel, ready to execute."""

    argv: tuple[str, ...]
    env: dict[str, str]
    """What it needs beyond the environment of every kernel."""
    interrupt_by_message: bool


def find(language: str, connection_file: str, user: User | None) -> Program:
    """The kernel of ``language``, which will read the file ``connection_file``.

    Raises ``KernelError`` when none is installed.
    """
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager(ensure_native_kernel=False)
    if user is not None:
        manager.kernel_dirs = [f"{user.home}/.local/share/jupyter/kernels", *manager.kernel_dirs]
    names = languages.get(language).kernels
    for name in names:
        try:
            return _program(manager.get_kernel_spec(name), connection_file)
        except NoSuchKernel:
            continue
    installed = ", ".join(sorted({"python3", *manager.find_kernel_specs()}))
    raise KernelError(
        f"language: '{language}' needs the Jupyter kernel {' or '.join(map(repr, names))}, which is not installed "
        f"(installed: {installed}); packaging/kernels.sh installs kernels on a box"
    )


def _program(spec: Any, connection_file: str) -> Program:
    values = {"{connection_file}": connection_file, "{resource_dir}": spec.resource_dir, "{prefix}": sys.prefix}
    argv = [_filled(part, values) for part in spec.argv]
    if _PYTHON.fullmatch(argv[0]):  # as jupyter_client does: the Python that has Jupyter, not the first in PATH
        argv[0] = sys.executable
    env = {key: str(value) for key, value in spec.env.items()}
    return Program(tuple(argv), env, interrupt_by_message=spec.interrupt_mode == "message")


def _filled(part: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part
