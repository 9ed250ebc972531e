"""Upstream connections kept between requests.

A connection is kept for one key only: sandbox, address and port together, so that an address given to another sandbox
never meets an old connection. Idle ones live shorter than any common server keeps them, which makes the race "reused
while the server was closing it" rare; ``exchange.py`` handles the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from appliance.gateway.upstream import Upstream

Key = tuple[str, str, int]
"""(sandbox id, host, port); the control API is ``("", "", 0)``."""

CONTROL_KEY: Final[Key] = ("", "", 0)


class Pool:
    """Idle connections, newest last; everything is O(1) but expiry."""

    def __init__(self, *, per_key: int, total: int, idle_timeout: float) -> None:
        """``idle_timeout``: seconds a connection is kept; ``per_key`` and ``total`` bound how many."""
        self._idle: dict[Key, list[Upstream]] = {}
        self._per_key = per_key
        self._total = total
        self._idle_timeout = idle_timeout
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def take(self, key: Key, *, not_before: float) -> Upstream | None:
        """The newest idle connection that became idle at ``not_before`` (loop time) or later."""
        idle = self._idle.get(key)
        if not idle or idle[-1].idle_since < not_before:
            return None
        upstream = idle.pop()
        self._size -= 1
        if not idle:
            del self._idle[key]
        return upstream

    def give(self, upstream: Upstream) -> bool:
        """Keep a connection; False when there is no room and the caller must close it."""
        idle = self._idle.setdefault(upstream.key, [])
        if len(idle) >= self._per_key or self._size >= self._total:
            if not idle:
                del self._idle[upstream.key]
            return False
        idle.append(upstream)
        self._size += 1
        return True

    def discard(self, upstream: Upstream) -> None:
        """Forget a connection that was closed by its server."""
        idle = self._idle.get(upstream.key)
        if idle is not None and upstream in idle:
            idle.remove(upstream)
            self._size -= 1
            if not idle:
                del self._idle[upstream.key]

    def expire(self, now: float) -> None:
        """Close what has been idle for too long."""
        limit = now - self._idle_timeout
        self._close([u for idle in self._idle.values() for u in idle if u.idle_since <= limit])

    def drop(self, sandbox_id: str) -> None:
        """Close everything kept for one sandbox."""
        self._close([u for key, idle in self._idle.items() if key[0] == sandbox_id for u in idle])

    def close(self) -> None:
        """Close everything."""
        self._close([u for idle in self._idle.values() for u in idle])

    def _close(self, upstreams: list[Upstream]) -> None:
        for upstream in upstreams:
            self.discard(upstream)
            upstream.transport.abort()
