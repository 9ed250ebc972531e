"""Delaying what is not urgent, so that changes that undo each other are never written.

A status that only moves a counter, or that says "starting" of something ready a moment later, waits a little; if the
reason to write has gone by then, nothing is written at all.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class Patience(Generic[K]):
    """When each key was first seen wanting something. ``now`` gives monotonic seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._since: dict[K, float] = {}

    def left(self, key: K, delay: float) -> float:
        """Seconds until ``delay`` has passed since the key first asked; 0.0 when it has."""
        since = self._since.setdefault(key, self._now())
        return max(0.0, since + delay - self._now())

    def clear(self, key: K) -> None:
        """The key got what it wanted, or no longer wants it."""
        self._since.pop(key, None)
