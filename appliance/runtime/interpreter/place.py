"""Where a kernel runs and how it is reached: its account, its directory, its Jupyter connection and environment."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import msgspec

from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.supervise.messages import Connection
from appliance.runtime.users import UnknownUser, User, Users


def kernel_user(settings: RuntimeSettings) -> User | None:
    """The default user, when we may become it and it exists; else None, the runtime's own account."""
    if settings.default_user is None:
        return None
    try:
        user = Users(settings.etc).get(settings.default_user)
    except UnknownUser:
        return None
    return user if os.geteuid() in (0, user.uid) else None


def environment(settings: RuntimeSettings, user: User | None) -> dict[str, str]:
    """A kernel's environment before /init's variables: little, and nothing of the runtime's own."""
    home = user.home if user else os.path.expanduser("~")
    name = user.name if user else os.environ.get("USER", "root")
    return {
        "PATH": f"{home}/.local/bin:{settings.path}",
        "HOME": home,
        "USER": name,
        "LOGNAME": name,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        # Debian marks its Python as externally managed; in a sandbox `pip install` is the point.
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        **settings.system_env,
    }


def base_directory() -> Path:
    """Where kernels' directories live: not in /tmp if possible, because cells like to empty it."""
    runtime = Path("/run")
    base = runtime if os.access(runtime, os.W_OK) else Path(tempfile.gettempdir())
    return base / f"appliance-kernels-{os.getppid()}"  # the supervisor's pid: the same for every server process


def tcp_connection(key: str) -> Connection:
    """Five free loopback ports. Not every kernel speaks ipc; the key keeps others out."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    shell, iopub, stdin, control, hb = ports
    return Connection(
        transport="tcp",
        ip="127.0.0.1",
        key=key,
        shell_port=shell,
        iopub_port=iopub,
        stdin_port=stdin,
        control_port=control,
        hb_port=hb,
    )


def connection_file(connection: Connection) -> bytes:
    """The contents of a Jupyter connection file."""
    return msgspec.json.encode({**msgspec.structs.asdict(connection), "signature_scheme": "hmac-sha256"})
