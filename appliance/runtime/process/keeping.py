"""Commands that outlive the server process: handing them to the supervisor, and taking them over from there.

Only a command that has lived ``KEEP_AFTER`` seconds is handed over, so that short ones pay nothing; younger ones are
lost with their server, as are the listeners of all. Taken over are pid, tag, configuration, descriptors and deadline.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Final, Protocol

from appliance.runtime.connect import wire
from appliance.runtime.process.messages import ProcessConfig
from appliance.runtime.supervise.messages import KeepProcess, ProcessRecord

KEEP_AFTER: Final = 0.5
"""Seconds of life."""
_STATUS_TIMEOUT: Final = 2.0
"""Seconds between a command's end and the supervisor's word on its status, which the dead server may have taken."""


class Keeper(Protocol):
    """The part of the supervisor's channel that commands use."""

    def keep(self, request: KeepProcess, descriptors: list[int]) -> bool:
        """Hand over; False when it cannot be done now."""

    def drop_stdin(self, pid: int) -> None:
        """Have the supervisor close its copy of a standard input."""

    def release(self, pid: int) -> None:
        """Have the supervisor forget a command."""


class Kept:
    """One command's place in the supervisor. ``keeper`` None: there is no supervisor, and nothing happens."""

    def __init__(self, keeper: Keeper | None, pid: int, config: ProcessConfig, tag: str | None) -> None:
        self._keeper = keeper
        self._pid = pid
        self._config = config
        self._tag = tag
        self._timer: asyncio.TimerHandle | None = None
        self._kept = False

    def later(self, descriptors: Callable[[], dict[str, int] | None], deadline: Callable[[], float | None]) -> None:
        """Hand over in a moment, with what ``descriptors`` and ``deadline`` say then (None: do not)."""
        if self._keeper is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(KEEP_AFTER, self._keep, descriptors, deadline)

    def _keep(self, descriptors: Callable[[], dict[str, int] | None], deadline: Callable[[], float | None]) -> None:
        assert self._keeper is not None
        named = descriptors()
        if named is None:
            return
        request = KeepProcess(
            pid=self._pid,
            config=wire.encode(self._config),
            tag=self._tag,
            names=tuple(named),
            deadline=deadline(),
        )
        self._kept = self._keeper.keep(request, list(named.values()))
        if not self._kept:
            self.later(descriptors, deadline)

    def adopted(self) -> None:
        """The supervisor has it already."""
        self._kept = True

    def drop_stdin(self) -> None:
        """Standard input was closed."""
        if self._kept and self._keeper is not None:
            self._keeper.drop_stdin(self._pid)

    def release(self) -> None:
        """The command has ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._kept and self._keeper is not None:
            self._keeper.release(self._pid)


class AdoptedWatch:
    """``ExitWatch`` for a command that is not our child: a pidfd tells when, the supervisor how it ended."""

    def __init__(self, pidfd: int, status: int | None, done: Callable[[int | None], None]) -> None:
        self._pidfd = pidfd
        self._status = status
        self._done = done
        self._over = False
        self._finished = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._ready)

    def _ready(self) -> None:
        self._loop.remove_reader(self._pidfd)
        self._over = True
        if self._status is not None:
            self._finish()
        else:
            self._loop.call_later(_STATUS_TIMEOUT, self._finish)

    def ended(self, status: int) -> None:
        """The supervisor's report, a wait status."""
        self._status = status
        if self._over:
            self._finish()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            os.close(self._pidfd)
            self._done(self._status)

    @property
    def pidfd(self) -> int | None:
        """The descriptor while the command lives."""
        return None if self._over else self._pidfd

    def send_signal(self, number: int) -> bool:
        """Signal it; False when it is gone."""
        if self._over:
            return False
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True


def config_of(record: ProcessRecord) -> ProcessConfig:
    """The configuration that was handed over."""
    return wire.decode(record.keep.config, ProcessConfig)
