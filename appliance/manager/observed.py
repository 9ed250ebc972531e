"""The manager's own counters, and everything it measures as Prometheus text.

Labels are route patterns, methods and outcomes: never a sandbox id, a key or a namespace, so the page tells nothing
about anybody and its size does not grow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import fields

from appliance.gateway.stats import Stats
from appliance.manager.runstate import Run

BUCKETS = tuple(0.005 * 2**power for power in range(15))
"""Upper bounds in seconds: 5 ms to 82 s."""


class Histogram:
    """Durations of one series."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def render(self, name: str, labels: str) -> Iterable[str]:
        """The series' lines."""
        seen = 0
        comma = "," if labels else ""
        for bound, count in zip((*map(_number, BUCKETS), "+Inf"), self.counts, strict=True):
            seen += count
            yield f'{name}_bucket{{{labels}{comma}le="{bound}"}} {seen}'
        yield f"{name}_sum{{{labels}}} {self.total:.6f}"
        yield f"{name}_count{{{labels}}} {seen}"


class Observed:
    """Counters of API requests and of claims."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str, int], int] = {}
        self._durations: dict[str, Histogram] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """One answer of the API; ``route`` is the pattern, not the path."""
        key = (method, route, status)
        self._answers[key] = self._answers.get(key, 0) + 1
        self._durations.setdefault(f'method="{method}",route="{route}"', Histogram()).add(seconds)

    def render(self, stats: Stats, runs: Mapping[Run, int], claims: Mapping[str, int]) -> str:
        """The page; ``claims`` counts the engine's claims by outcome."""
        lines = [
            *_series("appliance_api_requests_total", "counter", "API answers.", self._request_lines()),
            *_series("appliance_api_duration_seconds", "histogram", "Seconds per API request.", self._duration_lines()),
            *_series("appliance_claims_total", "counter", "Claims by outcome.", _claim_lines(claims)),
            *_series("appliance_sandboxes", "gauge", "Delivered sandboxes by state.", _run_lines(runs)),
            *gateway_lines(stats),
        ]
        return "\n".join(lines) + "\n"

    def _request_lines(self) -> Iterable[str]:
        for (method, route, status), count in sorted(self._answers.items()):
            yield f'appliance_api_requests_total{{method="{method}",route="{route}",status="{status}"}} {count}'

    def _duration_lines(self) -> Iterable[str]:
        for labels, histogram in sorted(self._durations.items()):
            yield from histogram.render("appliance_api_duration_seconds", labels)


def gateway_lines(stats: Stats) -> Iterable[str]:
    """Every counter of the data plane under its own name; new ones appear by themselves."""
    for member in fields(stats):
        value = getattr(stats, member.name)
        gauge = member.name.startswith("open_")
        name = f"appliance_gateway_{member.name}" + ("" if gauge else "_total")
        if isinstance(value, int):
            yield from _series(name, "gauge" if gauge else "counter", "Data plane.", [f"{name} {value}"])
        elif isinstance(value, Mapping):
            rows = (f'{name}{{kind="{kind}",status="{status}"}} {n}' for (kind, status), n in sorted(value.items()))
            yield from _series(name, "counter", "Data plane.", rows)


def _claim_lines(claims: Mapping[str, int]) -> Iterable[str]:
    for how, count in sorted(claims.items()):
        yield f'appliance_claims_total{{outcome="{how}"}} {count}'


def _run_lines(runs: Mapping[Run, int]) -> Iterable[str]:
    for run, count in runs.items():
        yield f'appliance_sandboxes{{state="{run.name.lower()}"}} {count}'


def _series(name: str, kind: str, text: str, rows: Iterable[str]) -> Iterable[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    yield from rows


def _number(value: float) -> str:
    return f"{value:g}"
