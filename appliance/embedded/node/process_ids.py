"""Naming a process so that a recycled pid is never mistaken for it: pid plus start time."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process of this boot. ``start`` is field 22 of /proc/PID/stat, clock ticks since boot."""

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> ProcessId:
        """The process with ``pid`` now. Raises ``ProcessLookupError`` when there is none."""
        return cls(pid, start_time(pid))

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        try:
            state, start = _stat(self.pid)
        except ProcessLookupError:
            return False
        return start == self.start and state not in "ZX"

    def kill(self, number: signal.Signals) -> bool:
        """Signal it through a pidfd, so that never another process is hit; False when it is gone."""
        try:
            fd = os.pidfd_open(self.pid)
        except OSError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(fd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(fd)
        return True


def start_time(pid: int) -> int:
    """Start time of ``pid`` in clock ticks since boot. Raises ``ProcessLookupError``."""
    return _stat(pid)[1]


def _stat(pid: int) -> tuple[str, int]:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in parentheses, may itself hold spaces and parentheses: fields count from the last one.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(f"no process {pid}") from None
    return fields[0].decode(), int(fields[19])
