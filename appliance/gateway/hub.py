"""What all connections of one gateway share: settings, routes, counters, the pool, the clock, who belongs to whom."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from appliance.config import GatewaySettings
from appliance.gateway.errors import Problem, refused
from appliance.gateway.pool import Pool
from appliance.gateway.request_head import RequestReader
from appliance.gateway.response_head import ResponseReader
from appliance.gateway.routes import Refusal, Routes
from appliance.gateway.stats import Stats

if TYPE_CHECKING:
    from appliance.gateway.client import Client
    from appliance.gateway.dial import Dialer
    from appliance.gateway.exchange import Exchange

log = logging.getLogger("appliance.gateway")

_ASKS_PER_SECOND = 50
"""Questions to the cluster about single sandboxes, of all clients together."""
_UNKNOWN_KEPT = 1024
"""Ids remembered for a second because the cluster did not know them."""


class Hub:
    """State of a running gateway; made by ``server.Gateway.start`` in its loop."""

    dialer: Dialer

    def __init__(
        self, settings: GatewaySettings, routes: Routes, stats: Stats, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.settings = settings
        self.routes = routes
        self.stats = stats
        self.loop = loop
        self.now = loop.time()
        """Coarse clock, moved by the sweep: good enough for time-outs, free to read."""
        self.pool = Pool(
            per_key=settings.upstream_idle_per_port,
            total=settings.upstream_idle_total,
            idle_timeout=settings.upstream_idle_timeout,
        )
        self.requests = RequestReader()
        self.responses = ResponseReader()
        self.clients: set[Client] = set()
        self.exchanges: dict[str, set[Exchange]] = {}
        """Sandbox id → its exchanges in flight, raw splices included."""
        self.draining = False
        self.emptied: asyncio.Event = asyncio.Event()
        """Set when the last client of a draining gateway has gone."""
        self.on_receipt: Callable[[str, bool], None] | None = None
        """Told once for each numbered request of the control API whether its answer reached a client that was there."""
        self._receipts = itertools.count(1)
        self._wakes: dict[str, asyncio.Task[Problem | None]] = {}
        self._unknown: dict[str, float] = {}
        self._asked: deque[float] = deque(maxlen=_ASKS_PER_SECOND)

    def settled(self, receipt: str, delivered: bool) -> None:
        """What became of the answer to a numbered request; to be said once."""
        if self.on_receipt is not None:
            self.on_receipt(receipt, delivered)

    def may_ask(self, sandbox_id: str, *, known: bool) -> bool:
        """Whether the cluster should be asked about this id: not twice a second for nothing, nor for a flood of ids."""
        now = self.loop.time()
        if len(self._asked) == _ASKS_PER_SECOND and now - self._asked[0] < 1.0:
            return False
        if not known:
            if sandbox_id in self._unknown and now - self._unknown[sandbox_id] < 1.0:
                return False
            self._unknown.pop(sandbox_id, None)
            self._unknown[sandbox_id] = now
            if len(self._unknown) > _UNKNOWN_KEPT:
                del self._unknown[next(iter(self._unknown))]
        self._asked.append(now)
        return True

    async def refresh(self, sandbox_id: str) -> None:
        """What the cluster knows of one sandbox, or after a second what this process knows."""
        try:
            async with asyncio.timeout(1.0):
                await self.routes.refresh(sandbox_id)
        except TimeoutError:
            return

    def receipt(self) -> str | None:
        """A number for one request, if anybody wants to know what becomes of its answer."""
        return str(next(self._receipts)) if self.on_receipt is not None else None

    def register(self, sandbox_id: str, exchange: Exchange) -> None:
        """``reset`` must find this exchange from now on."""
        self.exchanges.setdefault(sandbox_id, set()).add(exchange)

    def unregister(self, sandbox_id: str, exchange: Exchange) -> None:
        """The exchange is over; unknown ones are ignored."""
        members = self.exchanges.get(sandbox_id)
        if members is not None:
            members.discard(exchange)
            if not members:
                del self.exchanges[sandbox_id]

    async def wake(self, sandbox_id: str) -> Problem | None:
        """Have a paused sandbox woken; None once that is done. Concurrent callers share one attempt.

        A caller that is cancelled leaves the attempt to the others; it ends by itself after ``wake_timeout``.
        """
        task = self._wakes.get(sandbox_id)
        if task is None:
            task = self.loop.create_task(self._wake(sandbox_id), name=f"wake {sandbox_id}")
            self._wakes[sandbox_id] = task
            task.add_done_callback(lambda _: self._wakes.pop(sandbox_id, None))
        return await asyncio.shield(task)

    async def _wake(self, sandbox_id: str) -> Problem | None:
        self.stats.wakes += 1
        try:
            async with asyncio.timeout(self.settings.wake_timeout):
                allowed = await self.routes.wake(sandbox_id)
        except TimeoutError:
            return refused(Refusal.TRANSITIONING, sandbox_id)
        except Exception:
            log.exception("waking sandbox %s failed", sandbox_id)
            return refused(Refusal.TRANSITIONING, sandbox_id)
        return None if allowed else refused(Refusal.RESUME_DENIED, sandbox_id)

    async def close(self) -> None:
        """End the attempts to wake that are still under way."""
        tasks = list(self._wakes.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
