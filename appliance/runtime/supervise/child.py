"""What a freshly forked child does before it is anything: signals, descriptors, identity, directory.

Everything here runs between ``fork`` and the child's real work, in a process without threads. It never returns into the
supervisor's code: whoever forks ends the child with ``os._exit``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, NoReturn

from appliance.runtime.users import User

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_libc: Final = ctypes.CDLL(None, use_errno=True)


def fork(body: Callable[[], None]) -> int:
    """Run ``body`` in a child and return the child's pid. The child exits 0 when ``body`` returns, 70 when it
    raises.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        body()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(code)


def _leave(code: int) -> NoReturn:
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def reset_signals() -> None:
    """Default dispositions, nothing blocked, no wake-up descriptor: as after an exec."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGQUIT):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def be_python() -> None:
    """For a child that goes on as this interpreter: writing to a pipe or socket that nobody reads is an exception."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def die_with_parent(signum: int = signal.SIGKILL) -> None:
    """Get ``signum`` when the parent dies. Credentials changes reset this, so call it after them."""
    _libc.prctl(_PR_SET_PDEATHSIG, int(signum), 0, 0, 0)


def die_first(score: int) -> None:
    """Raise ``oom_score_adj``, which needs no right; where it cannot be done the process stays as it is."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(score))


def adopt_orphans() -> None:
    """Become the reaper of all descendants; pid 1 of a pid namespace already is."""
    if os.getpid() != 1:
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def close_descriptors(keep: Iterable[int] = ()) -> None:
    """Close everything above stderr but ``keep``."""
    at = 3
    for descriptor in sorted(keep):
        os.closerange(at, descriptor)
        at = max(at, descriptor + 1)
    os.closerange(at, 1 << 20)


def become(entry: User | None) -> None:
    """Take on an account. None or the present one: nothing. Raises ``PermissionError``."""
    if entry is None:
        return
    if entry.uid == os.geteuid():
        return
    os.setgroups(entry.groups)
    os.setresgid(entry.gid, entry.gid, entry.gid)
    os.setresuid(entry.uid, entry.uid, entry.uid)


def replace_environment(env: Mapping[str, str]) -> None:
    """Make ``env`` the whole environment of this process."""
    os.environ.clear()
    os.environ.update(env)


def exec_or_exit(argv: tuple[str, ...], env: Mapping[str, str]) -> NoReturn:
    """Replace this process by ``argv``, found in ``env``'s PATH; exit 127 (not found) or 126 (cannot run) as a
    shell does.
    """
    try:
        os.execvpe(argv[0], list(argv), dict(env))
    except FileNotFoundError:
        sys.stderr.write(f"{argv[0]}: not found\n")
        _leave(127)
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        _leave(126)
