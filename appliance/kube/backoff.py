"""Delays between attempts: exponential, bounded, and jittered so that many clients do not return in step."""

from __future__ import annotations

import random
from collections.abc import Callable


class Backoff:
    """Successive delays in seconds: between half and all of ``initial``, twice that, four times … up to ``maximum``."""

    def __init__(self, initial: float, maximum: float, *, rand: Callable[[], float] = random.random) -> None:
        if not 0 < initial <= maximum:
            raise ValueError(f"initial, maximum: expected 0 < initial <= maximum, got {initial} and {maximum}")
        self._initial = initial
        self._maximum = maximum
        self._rand = rand
        self._ceiling = initial

    def next(self, at_least: float = 0.0) -> float:
        """The next delay; ``at_least`` is what a server asked for (Retry-After) and is honoured in full."""
        ceiling, self._ceiling = self._ceiling, min(self._ceiling * 2, self._maximum)
        return max(at_least, ceiling * (0.5 + self._rand() / 2))

    def reset(self) -> None:
        """Something worked: start again from ``initial``."""
        self._ceiling = self._initial
