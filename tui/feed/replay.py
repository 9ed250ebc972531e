"""Playing a recording: the same changes through the same reducer, at a speed, with pause and scrubbing.

Going forward applies changes; going back starts a new world and applies them again up to that instant, which is what
makes every position exact.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable

from appliance.kube.cluster import Cluster
from tui.model.alerts import WatchHealth
from tui.model.change import WATCHED, Change
from tui.model.world import World

SPEEDS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 100.0)
TICK = 0.1
"""Seconds of real time between two steps."""


class Player:
    """A Source whose present is a position in a recording."""

    def __init__(self, changes: list[Change], label: str, clock: Callable[[], float]) -> None:
        """``clock`` is real time, in seconds, of any origin. Raises ValueError for an empty recording."""
        if not changes:
            raise ValueError("the recording holds no changes")
        self.cluster: Cluster | None = None
        self.label = f"replay of {label}" if label else "replay"
        self.changes = changes
        self.instants = [change.at for change in changes]
        self.start, self.end = self.instants[0], max(self.instants)
        self.speed = 1.0
        self.paused = False
        self.world = World()
        self._clock = clock
        self._applied = 0
        self._position = self.start
        self._last = clock()
        self.seek(self.start)

    @property
    def ready(self) -> bool:
        """A recording is always complete."""
        return True

    def now(self) -> float:
        """The position, as the instant it was then."""
        return self._position

    def health(self) -> list[WatchHealth]:
        """A recording has no troubles of its own."""
        return [WatchHealth(kind.plural, "live") for kind in WATCHED]

    def seek(self, to: float) -> None:
        """Go to that instant, back or forth, within the recording."""
        to = min(max(to, self.start), self.end)
        if to < self._position:
            self.world, self._applied = World(), 0
        end = bisect_right(self.instants, to)
        for change in self.changes[self._applied : end]:
            self.world.apply(change)
        self._applied = max(self._applied, end)
        self._position = to
        self.world.advance(to)

    def step(self) -> None:
        """Play as much as real time passed since the last step."""
        present = self._clock()
        passed, self._last = present - self._last, present
        if not self.paused:
            self.seek(self._position + passed * self.speed)

    def faster(self, direction: int) -> None:
        """The next higher (1) or lower (-1) speed."""
        place = min(range(len(SPEEDS)), key=lambda index: abs(SPEEDS[index] - self.speed))
        self.speed = SPEEDS[min(max(place + direction, 0), len(SPEEDS) - 1)]

    @property
    def progress(self) -> float:
        """How much of it has been played, 0 to 1."""
        length = self.end - self.start
        return (self._position - self.start) / length if length > 0 else 1.0

    async def run(self) -> None:
        """Play until cancelled; it stays at the end."""
        while True:
            self.step()
            await asyncio.sleep(TICK)
