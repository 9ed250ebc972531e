"""Kernels of other languages: the specifications that are installed in the sandbox's image, as commands to execute.

Found by ``jupyter_client``'s KernelSpecManager in the places Jupyter looks. Everything here is blocking file work.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from appliance.runtime.interpreter.kernels import KernelError, connection_file
from appliance.runtime.supervise.messages import Connection
from appliance.runtime.users import User


def command(name: str, connection: Connection, user: User | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line and extra environment of kernel ``name``; writes its connection file, readable to ``user`` only.

    Raises ``KernelError`` when no such kernel is installed.
    """
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    manager = KernelSpecManager(ensure_native_kernel=False)
    if user is not None:
        manager.kernel_dirs = [f"{user.home}/.local/share/jupyter/kernels", *manager.kernel_dirs]
    try:
        spec = manager.get_kernel_spec(name)
    except NoSuchKernel:
        installed = ", ".join(sorted({"python", *manager.find_kernel_specs()}))
        raise KernelError(f"language: no kernel named '{name}' is installed; installed are: {installed}") from None
    path = _write(connection, user)
    argv = tuple(
        part.replace("{connection_file}", path).replace("{resource_dir}", spec.resource_dir).replace("{prefix}", "/usr")
        for part in spec.argv
    )
    return argv, {key: str(value) for key, value in spec.env.items()}


def _write(connection: Connection, user: User | None) -> str:
    directory = Path(tempfile.mkdtemp(prefix="kernel-"))
    path = directory / "connection.json"
    path.write_text(json.dumps(connection_file(connection)))
    path.chmod(0o600)
    if user is not None:
        os.chown(path, user.uid, user.gid)
        os.chown(directory, user.uid, user.gid)
    return str(path)
