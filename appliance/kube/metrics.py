"""Counters of everything that goes to and comes from the cluster, for a role's ``/metrics`` page.

Plain numbers, written from the event loop only; ``lines`` renders them in the Prometheus text format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class KubeMetrics:
    """One per Cluster."""

    requests: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(verb, outcome) → requests; the outcome is the HTTP status, ``unreachable`` or ``timeout``."""
    watch_events: Counter[str] = field(default_factory=Counter)
    """plural → events received."""
    watch_restarts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(plural, cause) → streams that had to be opened again; ``ended`` is the server's regular time limit."""
    lists: Counter[str] = field(default_factory=Counter)
    """plural → complete lists made by informers; more than one per start is a relist."""
    undecodable: Counter[str] = field(default_factory=Counter)
    """plural → objects skipped because they do not fit their struct."""
    lag: dict[str, float] = field(default_factory=dict)
    """plural → seconds between the last observed write's answer and the same change on the watch."""

    def lines(self) -> Iterator[str]:
        """The counters as Prometheus text, one line each."""
        for (verb, outcome), count in sorted(self.requests.items()):
            yield f'appliance_kube_requests_total{{verb="{verb}",outcome="{outcome}"}} {count}'
        for (plural, cause), count in sorted(self.watch_restarts.items()):
            yield f'appliance_kube_watch_restarts_total{{resource="{plural}",cause="{cause}"}} {count}'
        for name, counts in (("watch_events", self.watch_events), ("lists", self.lists)):
            for plural, count in sorted(counts.items()):
                yield f'appliance_kube_{name}_total{{resource="{plural}"}} {count}'
        for plural, count in sorted(self.undecodable.items()):
            yield f'appliance_kube_undecodable_total{{resource="{plural}"}} {count}'
        for plural, seconds in sorted(self.lag.items()):
            yield f'appliance_kube_watch_lag_seconds{{resource="{plural}"}} {seconds:.6f}'
