"""Counters of the data plane: plain integers, written from the loop's thread, rendered by the manager's /metrics."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """Everything only grows, but for the two gauges ``open_connections`` and ``open_upgrades``."""

    connections: int = 0
    """Client connections accepted."""
    rejected_connections: int = 0
    """Connections answered 503 because ``max_connections`` was reached."""
    open_connections: int = 0
    open_upgrades: int = 0
    """WebSockets and other raw splices open now."""
    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    """(kind, status class) → answers; kind ``control``, ``sandbox`` or ``invalid``, class ``1xx`` … ``5xx``."""
    bytes_in: int = 0
    """Bytes read from clients."""
    bytes_out: int = 0
    """Bytes of answers written to clients."""
    dials: int = 0
    """New upstream connections asked for."""
    dial_failures: int = 0
    """Dials given up: nothing listens, unreachable, or too slow."""
    tunnels: int = 0
    """Upstream connections made through a runtime's port forwarder."""
    reuses: int = 0
    """Requests sent over a kept upstream connection."""
    retries: int = 0
    """Requests sent again because a kept connection turned out to be dead."""
    wakes: int = 0
    """Paused sandboxes woken by traffic."""
    resets: int = 0
    """Requests ended by ``Gateway.reset``."""
    timeouts: int = 0
    """Connections closed because their peer was too slow or silent."""
    truncated: int = 0
    """Answers cut because the upstream died in the middle of the body."""

    def answered(self, kind: str, status: int) -> None:
        """Count one answer, ours or an upstream's."""
        key = (kind, _CLASSES[status // 100 if 100 <= status < 600 else 0])
        self.requests[key] = self.requests.get(key, 0) + 1


_CLASSES = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")
