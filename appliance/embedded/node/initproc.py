"""First process of a container without the runtime: starts the command, reaps everything, passes SIGTERM on."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from appliance.embedded.node.identity import become
from appliance.embedded.node.request import Command

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


def run(command: Command) -> NoReturn:
    """Start ``command`` and exit with its status (128 + signal when one ended it), 126 or 127 when it cannot start."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [*_PASSED_ON, signal.SIGCHLD])
    pid = os.fork()
    if pid == 0:
        os.setsid()
        execute(command)
    while True:
        info = signal.sigwaitinfo([*_PASSED_ON, signal.SIGCHLD])
        if info.si_signo != signal.SIGCHLD:
            _send(pid, info.si_signo)
            continue
        code = _reap(pid)
        if code is not None:
            os._exit(code)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _reap(main: int) -> int | None:
    """Collect every ended child; the status of ``main`` when it was among them."""
    code: int | None = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == main:
            code = exit_code(status)


def exit_code(status: int) -> int:
    """A wait status as containers report it: the exit status, or 128 + signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def execute(command: Command) -> NoReturn:
    """Become the command's user and replace this process; 127 not found, 126 cannot run, 125 bad user or directory."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.set_wakeup_fd(-1)
    for number in (*_PASSED_ON, signal.SIGCHLD, signal.SIGPIPE, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    code = 125
    try:
        os.closerange(3, 65_536)
        become(command)
        os.chdir(command.cwd)
        code = 126
        os.execvpe(command.argv[0], list(command.argv), command.env)
    except FileNotFoundError as error:
        code = 127 if code == 126 else code
        _complain(command, error)
    except Exception as error:
        _complain(command, error)
    finally:
        os._exit(code)


def _complain(command: Command, error: Exception) -> None:
    with suppress(OSError):
        sys.stderr.write(f"{command.argv[0]}: {error}\n")
        sys.stderr.flush()
