"""Kernels of other languages: the specifications that are installed in the sandbox's image, as commands to execute.

Found by ``jupyter_client``'s KernelSpecManager in the places Jupyter looks. Everything here is blocking file work.
"""

from __future__ import annotations

from appliance.runtime.interpreter.kernels import KernelError
from appliance.runtime.users import User


def command(name: str, connection_file: str, user: User | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The command line and extra environment of kernel ``name``, which will read the file ``connection_file``.

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
    values = {"{connection_file}": connection_file, "{resource_dir}": spec.resource_dir, "{prefix}": "/usr"}
    return tuple(_filled(part, values) for part in spec.argv), {key: str(value) for key, value in spec.env.items()}


def _filled(part: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        part = part.replace(name, value)
    return part
