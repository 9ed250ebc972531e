"""The processes clients can name: live ones by pid and tag, ended ones for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from appliance.runtime.connect.errors import Code, ConnectError, invalid, not_found
from appliance.runtime.process.messages import ProcessSelector
from appliance.runtime.process.process import Process
from appliance.runtime.settings import RuntimeSettings

_MAX_RETAINED = 10_000
"""Ended processes kept at most; a storm of short commands drops the oldest early."""


class Registry:
    """Live and just ended processes."""

    def __init__(self, settings: RuntimeSettings) -> None:
        self._settings = settings
        self._live: dict[int, Process] = {}
        self._ended: dict[int, Process] = {}

    def __iter__(self) -> Iterator[Process]:
        """Live processes, oldest first; one that only waits for its pipes no longer counts."""
        return (process for process in list(self._live.values()) if process.running)

    def check_room(self) -> None:
        """Raises ``ConnectError`` resource_exhausted when too many processes live."""
        if len(self._live) >= self._settings.max_processes:
            raise ConnectError(Code.RESOURCE_EXHAUSTED, f"already {len(self._live)} processes started by clients")

    def add(self, process: Process) -> None:
        """A process has been started; its pid may have belonged to an ended one."""
        self._ended.pop(process.pid, None)
        self._live[process.pid] = process

    def ended(self, process: Process) -> None:
        """The end of a process has been told; keep it for late Connects."""
        if self._live.get(process.pid) is process:
            del self._live[process.pid]
            self._ended[process.pid] = process
            asyncio.get_running_loop().call_later(self._settings.retention, self._forget, process)
        if len(self._ended) > _MAX_RETAINED:
            del self._ended[next(iter(self._ended))]

    def _forget(self, process: Process) -> None:
        if self._ended.get(process.pid) is process:
            del self._ended[process.pid]

    def live(self, selector: ProcessSelector | None) -> Process:
        """The live process that ``selector`` names. Raises ``ConnectError`` not_found, invalid_argument."""
        found = self._find(selector, self._live)
        if found is None or not found.running:
            raise self._missing(selector)
        return found

    def any(self, selector: ProcessSelector | None) -> Process:
        """The live or retained process that ``selector`` names. Raises ``ConnectError`` not_found, invalid_argument."""
        found = self._find(selector, self._live) or self._find(selector, self._ended)
        if found is None:
            raise self._missing(selector)
        return found

    @staticmethod
    def _find(selector: ProcessSelector | None, processes: dict[int, Process]) -> Process | None:
        if selector is not None and selector.pid is not None:
            return processes.get(selector.pid)
        if selector is not None and selector.tag is not None:
            # The newest wins when a tag was used again.
            return next((p for p in reversed(processes.values()) if p.tag == selector.tag), None)
        raise invalid("process: expected a selector with pid or tag")

    @staticmethod
    def _missing(selector: ProcessSelector | None) -> ConnectError:
        assert selector is not None
        what = f"pid {selector.pid}" if selector.pid is not None else f"tag {selector.tag}"
        return not_found(f"process with {what} not found")
