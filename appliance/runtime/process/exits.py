"""How a process ended, in the words of the protocol (which are Go's ``os.ProcessState``)."""

from __future__ import annotations

import os
import signal
from typing import Final

from appliance.runtime.process.messages import EndEvent

# Go's names of Linux signals as syscall.Signal prints them; others print as "signal N".
_NAMES: Final = {
    signal.SIGHUP: "hangup",
    signal.SIGINT: "interrupt",
    signal.SIGQUIT: "quit",
    signal.SIGILL: "illegal instruction",
    signal.SIGTRAP: "trace/breakpoint trap",
    signal.SIGABRT: "aborted",
    signal.SIGBUS: "bus error",
    signal.SIGFPE: "floating point exception",
    signal.SIGKILL: "killed",
    signal.SIGUSR1: "user defined signal 1",
    signal.SIGSEGV: "segmentation fault",
    signal.SIGUSR2: "user defined signal 2",
    signal.SIGPIPE: "broken pipe",
    signal.SIGALRM: "alarm clock",
    signal.SIGTERM: "terminated",
}


def end_event(status: int) -> EndEvent:
    """The end event for a ``waitpid`` status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        text = (
            f"signal: {_NAMES.get(signal.Signals(number), f'signal {number}')}"
            if number < 32
            else f"signal: signal {number}"
        )
        if os.WCOREDUMP(status):
            text += " (core dumped)"
        return EndEvent(exit_code=-1, exited=False, status=text, error=text)
    code = os.WEXITSTATUS(status)
    text = f"exit status {code}"
    return EndEvent(exit_code=code, exited=True, status=text, error=text if code else None)


UNKNOWN: Final = EndEvent(exit_code=-1, exited=False, status="unknown", error="the exit status was lost")
"""For a child that somebody else reaped."""
