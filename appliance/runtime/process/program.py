"""From a StartRequest to a ``Program``: user, directory, environment, terminal, each checked and named when wrong."""

from __future__ import annotations

from appliance.runtime.connect.call import Call
from appliance.runtime.connect.errors import invalid
from appliance.runtime.context import Context
from appliance.runtime.process.messages import Pty, StartRequest
from appliance.runtime.process.spawn import Program
from appliance.runtime.users import User

_MAX_TERMINAL = 0xFFFF  # struct winsize holds 16 bits each


def program_of(request: StartRequest, call: Call, context: Context) -> Program:
    """What to start for ``request``. Raises ``ConnectError`` invalid_argument, unauthenticated."""
    config = request.process
    if config is None or not config.cmd:
        raise invalid("process.cmd: expected a command")
    user = context.rpc_user(call)
    for index, text in enumerate((config.cmd, *config.args)):
        if "\0" in text:
            raise invalid(f"process.{'cmd' if index == 0 else f'args[{index - 1}]'}: contains a zero byte")
    return Program(
        command=config.cmd,
        args=config.args,
        env=environment(user, config.envs, context),
        cwd=context.rpc_path(config.cwd or "", user),
        user=user,
        stdin=request.stdin is not False,
        terminal=None if request.pty is None else terminal_size(request.pty),
        oom_score_adj=context.settings.oom_score_adj,
    )


def environment(user: User, requested: dict[str, str], context: Context) -> dict[str, str]:
    """Later wins: PATH, the user's own, the sandbox's global ones, the request's."""
    for name, value in requested.items():
        if not name or "=" in name or "\0" in name or "\0" in value:
            raise invalid(f"process.envs: {name!r} is not a usable variable")
    own = {"PATH": context.settings.path, "HOME": user.home, "USER": user.name, "LOGNAME": user.name}
    return own | context.state.env | requested


def terminal_size(pty: Pty) -> tuple[int, int]:
    """Columns and rows. Raises ``ConnectError`` invalid_argument when one does not fit a terminal."""
    columns, rows = (pty.size.cols, pty.size.rows) if pty.size else (0, 0)
    if columns > _MAX_TERMINAL or rows > _MAX_TERMINAL:
        raise invalid(f"pty.size: expected at most {_MAX_TERMINAL} columns and rows, got {columns} x {rows}")
    return columns, rows
