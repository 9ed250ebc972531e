"""Commands of clients on the supervisor's side: what the next server process needs to go on with them.

A server hands over each command that has lived for a moment: its descriptors (our ends of its pipes or terminal, and
a pidfd) and what is known of it. While the supervisor holds the pipes open, a command outlives its server without
noticing: nobody reads for the moment, so it may wait, but no write fails. The next server inherits the descriptors by
fork. Once its parent is dead a command is the supervisor's child, so the supervisor learns how it ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import Final

from appliance.runtime.supervise.messages import KeepProcess, ProcessRecord

MAX_PROCESSES: Final = 4096
"""Commands held at most; what comes beyond is not kept."""
PIDFD: Final = "pidfd"
STDIN: Final = "stdin"


class ProcessTable:
    """Every command that was handed over and not released."""

    def __init__(self) -> None:
        self.records: dict[int, ProcessRecord] = {}

    def keep(self, request: KeepProcess, descriptors: list[int]) -> None:
        """Hold a command's descriptors, in the order of ``request.names``. Unusable ones are closed."""
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if len(descriptors) != len(request.names) or len(self.records) >= MAX_PROCESSES:
            _close(descriptors)
            return
        self.release(request.pid)
        self.records[request.pid] = ProcessRecord(request, dict(zip(request.names, descriptors, strict=True)))

    def drop_stdin(self, pid: int) -> None:
        """Close a command's standard input: it sees the end only when nobody has it open."""
        record = self.records.get(pid)
        if record is not None and (descriptor := record.descriptors.pop(STDIN, None)) is not None:
            os.close(descriptor)

    def release(self, pid: int) -> None:
        """Forget a command; an unknown one is ignored."""
        record = self.records.pop(pid, None)
        if record is not None:
            _close(record.descriptors.values())

    def ended(self, pid: int, status: int) -> bool:
        """Note the wait status of a reaped child; whether it is one of these."""
        record = self.records.get(pid)
        if record is None or record.status is not None:
            return False
        record.status = status
        return True

    @property
    def descriptors(self) -> list[int]:
        """All of them: what the next server must not close."""
        return [each for record in self.records.values() for each in record.descriptors.values()]


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            os.close(descriptor)
