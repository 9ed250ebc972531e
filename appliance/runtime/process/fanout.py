"""One process's events to any number of listeners, with back-pressure.

Every listener gets every event from its subscription on. A listener holds at most ``limit`` bytes; while any is full
the source is paused, so the slowest listener sets the pace until it goes away. Without listeners output is discarded:
a process never waits for a reader that is not there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from appliance.runtime.connect.errors import ConnectError
from appliance.runtime.process.messages import ProcessEvent


class Subscription:
    """One listener's queue. Events come out in order; after the end event ``ended`` is True."""

    def __init__(self, limit: int, room: Callable[[], None]) -> None:
        self._limit = limit
        self._room = room
        self._events: deque[tuple[ProcessEvent | ConnectError, int]] = deque()
        self._held = 0
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    @property
    def full(self) -> bool:
        """No room for more output."""
        return self._held >= self._limit

    def put(self, event: ProcessEvent | ConnectError, size: int = 0) -> None:
        """Queue an event that counts ``size`` bytes."""
        self._events.append((event, size))
        self._held += size
        self.wake()

    def wake(self) -> None:
        """Let a waiting ``next`` return."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self, idle: float) -> ProcessEvent | None:
        """The next event; None after ``idle`` seconds without one, or when ``close`` was called.

        Raises the ``ConnectError`` that was queued for this listener.
        """
        if not self._events and not self.closed:
            await self._wait(idle)
        if not self._events or self.closed:
            return None
        event, size = self._events.popleft()
        was_full = self.full
        self._held -= size
        if was_full and not self.full:
            self._room()
        if isinstance(event, ConnectError):
            raise event
        return event

    async def _wait(self, idle: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(idle, self.wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def close(self) -> None:
        """The listener is gone; nothing is kept for it."""
        self.closed = True
        self._events.clear()
        self._held = 0
        self.wake()


class Fanout:
    """The listeners of one process."""

    def __init__(self, limit: int, resume: Callable[[], None]) -> None:
        self._limit = limit
        self._resume = resume
        self._subscriptions: set[Subscription] = set()

    def subscribe(self) -> Subscription:
        """A new listener, which gets what is published from now on."""
        subscription = Subscription(self._limit, self._resume)
        self._subscriptions.add(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a listener; idempotent. The source may go on if it was the slow one."""
        self._subscriptions.discard(subscription)
        subscription.close()
        self._resume()

    def publish(self, event: ProcessEvent, size: int = 0) -> None:
        """Give ``event`` to every listener."""
        for subscription in self._subscriptions:
            subscription.put(event, size)

    @property
    def full(self) -> bool:
        """Some listener has no room."""
        return any(subscription.full for subscription in self._subscriptions)
