"""Time as the waiting parts of this package see it, so that tests can turn it by hand.

A ``Clock`` is a monotonic reading and a timer; the real one is the running event loop's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A call that is due later."""

    def cancel(self) -> None:
        """Drop the call; harmless when it already happened."""


class Clock(Protocol):
    """Monotonic seconds and timers."""

    def now(self) -> float:
        """Seconds since some fixed instant."""

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` in the event loop after ``delay`` seconds."""


class LoopClock:
    """The clock of the running event loop."""

    def now(self) -> float:
        """The loop's monotonic time, seconds."""
        return asyncio.get_running_loop().time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Schedule on the running loop."""
        return asyncio.get_running_loop().call_later(delay, callback)


async def sleep(clock: Clock, delay: float) -> None:
    """Sleep ``delay`` seconds of that clock."""
    done = asyncio.get_running_loop().create_future()
    timer = clock.call_later(delay, lambda: None if done.done() else done.set_result(None))
    try:
        await done
    finally:
        timer.cancel()
