"""The events of one watcher, waiting for their reader; bounded."""

from __future__ import annotations

import asyncio
from collections import deque

from appliance.runtime.connect.errors import Code, ConnectError
from appliance.runtime.filesystem.messages import FilesystemEvent


class EventQueue:
    """Single reader. Too many events, or events the kernel lost, make the next read fail instead of lying by
    omission.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._events: deque[FilesystemEvent] = deque()
        self._lost = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, event: FilesystemEvent) -> None:
        """Queue an event."""
        if len(self._events) >= self._limit:
            self.lose()
            return
        self._events.append(event)
        self.wake()

    def lose(self) -> None:
        """Events are missing."""
        self._lost = True
        self._events.clear()
        self.wake()

    def wake(self) -> None:
        """Let a waiting ``wait`` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self, idle: float) -> None:
        """Return when there is something to read, ``wake`` was called, or ``idle`` seconds have passed."""
        if self._events or self._lost:
            return
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(idle, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def take(self) -> list[FilesystemEvent]:
        """All events, removed. Raises ``ConnectError`` resource_exhausted once after events were lost."""
        if self._lost:
            self._lost = False
            raise ConnectError(
                Code.RESOURCE_EXHAUSTED, "events were lost: too many changes, or too many directories to watch"
            )
        events = list(self._events)
        self._events.clear()
        return events
