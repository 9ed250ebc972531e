"""How many sandboxes each team runs, and how fast it starts new ones: a sample every ``INTERVAL``, kept for six hours.

Of this replica's making, from its roster, after those of the one whose place it took (``history.py``); nothing is kept
for a team that has no sandbox and had none in that time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from appliance.api import times

INTERVAL = 30.0
"""Seconds between two samples."""
KEPT = 720
"""Samples kept per team: six hours."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One team at one instant."""

    at: int
    """Unix seconds."""
    running: int
    rate: float
    """Sandboxes started per second since the sample before."""


class TeamMetrics:
    """Samples by team."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[Sample]] = {}
        self._started: Counter[str] = Counter()
        self._last: float | None = None

    def started(self, team: str) -> None:
        """A sandbox was delivered."""
        self._started[team] += 1

    def sample(self, running: Mapping[str, int], now: float) -> None:
        """Take one sample of every team; ``now`` in unix seconds."""
        elapsed = INTERVAL if self._last is None else max(1.0, now - self._last)
        self._last = now
        for team in {*running, *self._started, *self._samples}:
            rate = self._started[team] / elapsed
            kept = self._samples.setdefault(team, deque(maxlen=KEPT))
            kept.append(Sample(int(now), running.get(team, 0), rate))
            if not any(one.running or one.rate for one in kept):
                del self._samples[team]
        self._started.clear()

    def all(self) -> Mapping[str, Sequence[Sample]]:
        """The samples of every team."""
        return {team: tuple(samples) for team, samples in self._samples.items()}

    def restore(self, team: str, samples: Iterable[Sample]) -> None:
        """Take over the samples that an earlier manager had of a team."""
        self._samples[team] = deque(samples, maxlen=KEPT)

    def between(self, team: str, start: int, end: int) -> list[Sample]:
        """The samples from ``start`` to ``end`` (unix seconds, inclusive), oldest first."""
        return [one for one in self._samples.get(team, ()) if start <= one.at <= end]


def render(sample: Sample) -> dict[str, Any]:
    """``TeamMetric``."""
    return {**_when(sample), "concurrentSandboxes": sample.running, "sandboxStartRate": round(sample.rate, 4)}


def highest(samples: list[Sample], metric: str, now: int) -> dict[str, Any]:
    """``MaxTeamMetric``: the sample with the highest value; 0, now, when there is none."""
    field = {"concurrent_sandboxes": "running", "sandbox_start_rate": "rate"}[metric]
    best = max(samples, key=lambda one: float(getattr(one, field)), default=Sample(now, 0, 0.0))
    return {**_when(best), "value": getattr(best, field)}


def _when(sample: Sample) -> dict[str, Any]:
    return {"timestamp": times.format(datetime.fromtimestamp(sample.at, UTC)), "timestampUnix": sample.at}
