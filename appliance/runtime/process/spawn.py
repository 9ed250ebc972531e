"""Starting a program: descriptors, working directory, credentials, OOM score, then one ``posix_spawn``.

No wrapper programs: each exec of a dynamic program costs 0.7 ms on a virtual machine, and the reference daemon spends
three on ``sh``, ``ionice`` and ``nice``. What they set is set here on the server itself for the moment of the spawn,
and inherited:

* credentials: ``process.identity``;
* working directory: ``chdir`` as the user, so the kernel checks the permission, and back;
* ``oom_score_adj``: raised and lowered again. Lowering to where it was needs no capability.

A command that does not exist is no error of the call: as with the reference a shell says so on stderr and exits 127.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
import termios
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from appliance.runtime.process.identity import acting_as
from appliance.runtime.process.oom import raised_oom_score
from appliance.runtime.users import User

_RESET: Final = tuple(s for s in signal.valid_signals() if s not in (signal.SIGKILL, signal.SIGSTOP))
_SHELL: Final = "/bin/sh"


class CannotStart(Exception):
    """The request cannot be started as asked; the message says why."""


class NoResources(CannotStart):
    """The sandbox has no processes, memory, descriptors or terminals left; the same request may work later."""


_SPENT: Final = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC})


def _failure(what: str, error: OSError) -> CannotStart:
    return (NoResources if error.errno in _SPENT else CannotStart)(f"{what}: {error.strerror}")


@dataclass(frozen=True, slots=True)
class Program:
    """What to start, everything resolved."""

    command: str
    args: list[str]
    env: Mapping[str, str]
    cwd: str
    user: User
    stdin: bool = True
    terminal: tuple[int, int] | None = None
    """Columns and rows of a pseudo-terminal; None: pipes."""
    oom_score_adj: int | None = None


@dataclass(slots=True)
class Spawned:
    """A running child and our ends of its descriptors, all non-blocking. The owner closes them."""

    pid: int
    stdin: int | None = None
    outputs: dict[str, int] = field(default_factory=dict)
    """``stdout`` and ``stderr``, or ``pty``."""


def spawn(program: Program) -> Spawned:
    """Start ``program``. Raises ``CannotStart`` (bad cwd, no permission; ``NoResources``), ``CannotSwitch``."""
    return _spawn_terminal(program) if program.terminal else _spawn_pipes(program)


def _spawn_pipes(program: Program) -> Spawned:
    ours: dict[str, int] = {}
    theirs: list[int] = []
    actions: list[tuple[Any, ...]] = []
    try:
        if program.stdin:
            read_end, ours["stdin"] = _pipe()
            theirs.append(read_end)
            actions.append((os.POSIX_SPAWN_DUP2, read_end, 0))
        else:
            actions.append((os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0))
        for number, name in ((1, "stdout"), (2, "stderr")):
            ours[name], write_end = _pipe()
            theirs.append(write_end)
            actions.append((os.POSIX_SPAWN_DUP2, write_end, number))
        pid = _exec(program, actions, session=False)
        return Spawned(pid, _unblocked(ours).pop("stdin", None), ours)
    except BaseException:
        _close(ours.values())
        raise
    finally:
        _close(theirs)


def _spawn_terminal(program: Program) -> Spawned:
    assert program.terminal is not None
    columns, rows = program.terminal
    try:
        ours, theirs = os.openpty()
    except OSError as error:
        raise _failure("no pseudo-terminal for the process", error) from error
    try:
        termios.tcsetwinsize(ours, (rows, columns))
        _give_terminal(theirs, program.user)
        # The child is a session leader without a terminal, so that opening one makes it the controlling terminal.
        actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.ttyname(theirs), os.O_RDWR, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, 0, number) for number in (1, 2)]
        pid = _exec(program, actions, session=True)
        os.set_blocking(ours, False)
        return Spawned(pid, None, {"pty": ours})
    except BaseException:
        _close([ours])
        raise
    finally:
        _close([theirs])


def _give_terminal(descriptor: int, user: User) -> None:
    """The terminal belongs to its user, so that programs in it can open ``/dev/tty`` by name and change its mode."""
    with contextlib.suppress(PermissionError):
        os.fchown(descriptor, user.uid, -1)
        os.fchmod(descriptor, 0o620)


def _exec(program: Program, actions: list[tuple[Any, ...]], *, session: bool) -> int:
    """Spawn as the user, in the directory; returns the pid."""
    before = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        with raised_oom_score(program.oom_score_adj), acting_as(program.user):
            _enter(program.cwd)
            return _posix_spawn(program, actions, session)
    finally:
        os.fchdir(before)
        os.close(before)


def _enter(directory: str) -> None:
    try:
        os.chdir(directory)
    except FileNotFoundError:
        raise CannotStart(f"cwd '{directory}' does not exist") from None
    except OSError as error:
        raise CannotStart(f"cwd '{directory}': {error.strerror}") from None


def _posix_spawn(program: Program, actions: list[tuple[Any, ...]], session: bool) -> int:
    env = {name.encode(): value.encode() for name, value in program.env.items()}
    args = [argument.encode() for argument in program.args]
    options: dict[str, Any] = {"file_actions": actions, "setsigmask": (), "setsigdef": _RESET}
    options.update({"setsid": True} if session else {"setpgroup": 0})
    path = _find(program.command, program.env.get("PATH", ""))
    try:
        if path is not None:
            return _tried(path, [program.command.encode(), *args], env, options)
        script = [b"sh", b"-c", b'exec "$0" "$@"', program.command.encode(), *args]
        return os.posix_spawn(_SHELL, script, env, **options)
    except OSError as error:
        raise _failure(f"cannot start {program.command!r}", error) from None


def _tried(path: str, argv: list[bytes], env: dict[bytes, bytes], options: dict[str, Any]) -> int:
    """Spawn ``path``; a script without an interpreter line goes to the shell, as ``execvp`` does."""
    try:
        return os.posix_spawn(path, argv, env, **options)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
        return os.posix_spawn(_SHELL, [b"sh", path.encode(), *argv[1:]], env, **options)


def _find(command: str, search: str) -> str | None:
    """The program that ``execvp`` would run, seen with the user's own rights; None when there is none."""
    if "/" in command:
        return command if _executable(command) else None
    return next((p for d in search.split(":") if _executable(p := f"{d or '.'}/{command}")), None)


def _executable(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode) and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False


def _pipe() -> tuple[int, int]:
    try:
        return os.pipe()
    except OSError as error:
        raise _failure("no pipe for the process", error) from error


def _unblocked(descriptors: dict[str, int]) -> dict[str, int]:
    for descriptor in descriptors.values():
        os.set_blocking(descriptor, False)
    return descriptors


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
