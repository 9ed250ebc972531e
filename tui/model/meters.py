"""Small instruments over time: rates, sampled levels and percentiles, all told the time by their caller.

Each holds a bounded amount, whatever happens; each gives the same answer for the same sequence of calls.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

RATE_WINDOW = 60
"""Seconds over which rates are taken."""
SAMPLE_PERIOD = 2.0
"""Seconds between two samples of a level."""
SAMPLES = 150
"""Samples kept: five minutes."""


class RateMeter:
    """Happenings a second, counted in whole seconds of a sliding window."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.total = 0

    def add(self, at: float, count: int = 1) -> None:
        """Something happened ``count`` times at ``at``; instants may come out of order."""
        second = math.floor(at)
        self._counts[second] = self._counts.get(second, 0) + count
        self.total += count
        if len(self._counts) > 4 * RATE_WINDOW:
            for old in sorted(self._counts)[: 2 * RATE_WINDOW]:
                del self._counts[old]

    def count(self, now: float, window: int = RATE_WINDOW) -> int:
        """Happenings in the last ``window`` seconds."""
        newest = math.floor(now)
        return sum(count for second, count in self._counts.items() if newest - window < second <= newest)

    def rate(self, now: float, window: int = RATE_WINDOW) -> float:
        """Happenings a second over the window."""
        return self.count(now, window) / window

    def series(self, now: float, points: int, step: int = 5) -> list[float]:
        """Happenings in each of the last ``points`` steps of ``step`` seconds, oldest first."""
        newest = math.floor(now)
        sums = [0.0] * points
        for second, count in self._counts.items():
            back = (newest - second) // step
            if 0 <= back < points:
                sums[points - 1 - back] += count
        return sums


class LevelHistory:
    """A level sampled at fixed instants: the sample is the level that held when the instant passed."""

    def __init__(self) -> None:
        self.level = 0.0
        self._next: float | None = None
        self.samples: deque[float] = deque(maxlen=SAMPLES)

    def advance(self, now: float) -> None:
        """Take the samples that are due; after a long silence only as many as are kept."""
        if self._next is None:
            self._next = math.floor(now / SAMPLE_PERIOD) * SAMPLE_PERIOD + SAMPLE_PERIOD
            self.samples.append(self.level)
            return
        if now < self._next:
            return
        due = math.floor((now - self._next) / SAMPLE_PERIOD) + 1
        self.samples.extend([self.level] * min(due, SAMPLES))
        self._next += due * SAMPLE_PERIOD

    def set(self, now: float, level: float) -> None:
        """The level changed at ``now``."""
        self.advance(now)
        self.level = level


def percentile(values: Iterable[float], share: float) -> float | None:
    """The nearest-rank percentile, ``share`` in 0..1; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
