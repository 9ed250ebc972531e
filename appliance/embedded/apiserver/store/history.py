"""What happened to one kind lately: the source of every watch.

Watchers hold a position, not a queue: a slow one costs nothing, and once it is overtaken by the limit it gets 410.
An event's line is encoded once for all watchers that want it unfiltered.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right

from appliance.embedded.apiserver.store.record import Record

MAX_BYTES = 96 * 1024 * 1024
"""Bytes of object bodies kept per kind, whatever the number of events."""


class Change:
    """One committed (or staged) change. ``record`` is the new version; for DELETED the last one, with a new version."""

    __slots__ = ("_line", "done", "kind", "previous", "record")

    def __init__(self, kind: str, record: Record, previous: Record | None) -> None:
        self.kind = kind
        self.record = record
        self.previous = previous
        self.done: asyncio.Future[None] | None = None
        self._line: bytes | None = None

    def line(self) -> bytes:
        """The watch event as one JSON line."""
        if self._line is None:
            self._line = event_line(self.kind, self.record.body)
        return self._line


def event_line(kind: str, body: bytes) -> bytes:
    """A watch event of an already encoded object."""
    return b'{"type":"%s","object":%s}\n' % (kind.encode(), body)


class History:
    """A bounded log of changes with absolute positions; ``floor`` is the version below which it knows nothing."""

    def __init__(self, floor: int, limit: int) -> None:
        self.floor = floor
        self._limit = max(limit, 1)
        self._changes: list[Change] = []
        self._base = 0
        self._bytes = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def end(self) -> int:
        """The position after the newest change."""
        return self._base + len(self._changes)

    def position(self, version: int) -> int | None:
        """The position of the first change after ``version``; None when it is no longer known."""
        if version < self.floor:
            return None
        return self._base + bisect_right(self._changes, version, key=lambda change: change.record.version)

    def since(self, position: int, limit: int) -> list[Change] | None:
        """Up to ``limit`` changes from ``position``; None when they fell out of the log."""
        start = position - self._base
        if start < 0:
            return None
        return self._changes[start : start + limit]

    def append(self, change: Change) -> None:
        """Adds a committed change and trims the oldest quarter once over a limit."""
        self._changes.append(change)
        self._bytes += len(change.record.body)
        if len(self._changes) > self._limit or self._bytes > MAX_BYTES:
            self._trim(max(1, len(self._changes) // 4))

    def _trim(self, count: int) -> None:
        gone = self._changes[:count]
        self.floor = gone[-1].record.version
        self._bytes -= sum(len(change.record.body) for change in gone)
        del self._changes[:count]
        self._base += count

    def wake(self) -> None:
        """Wakes every waiting watcher; called once per commit."""
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, position: int, timeout: float) -> bool:
        """Waits until there is a change at ``position``; False after ``timeout`` seconds."""
        if self.end > position:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True
