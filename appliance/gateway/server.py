"""The gateway: its listener, its sweep, its end. Start here.

``start`` binds, ``drain`` ends in a fixed order: for ``leave_time`` every answer closes its connection, then there are
no new connections, idle ones are closed, requests in flight finish (up to ``drain_timeout``), the rest is aborted.
``reset`` cuts one sandbox's connections with RST: clients take that, followed by 502 for the next request, for "the
sandbox was killed".
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

from appliance.api.address import parse_address
from appliance.config import GatewaySettings
from appliance.gateway.client import Client
from appliance.gateway.dial import Dialer
from appliance.gateway.hub import Hub
from appliance.gateway.routes import Routes
from appliance.gateway.stats import Stats
from appliance.gateway.tls import Certificate

BACKLOG = 2048
"""Connections the kernel queues while the loop is busy."""


class Gateway:
    """The data plane. Made anywhere; ``start``, ``drain`` and ``reset`` are called in one running loop."""

    def __init__(self, settings: GatewaySettings, routes: Routes, control_socket: Path) -> None:
        """``control_socket``: Unix socket where the control API is (or will be) served."""
        self.stats = Stats()
        self._settings = settings
        self._routes = routes
        self._control_socket = control_socket
        self._hub: Hub | None = None
        self._servers: list[asyncio.Server] = []
        self._sweeper: asyncio.TimerHandle | None = None
        self._certificate: Certificate | None = None
        self.on_receipt: Callable[[str, bool], None] | None = None
        """Set before ``start``: (number, delivered), once for each request that carried ``X-Appliance-Receipt``."""

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """(host, port) of every listening socket; empty before ``start``."""
        return [tuple(s.getsockname()[:2]) for server in self._servers for s in server.sockets]

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ValueError: ``listen`` is not HOST:PORT, or only one of ``tls_cert`` and ``tls_key`` is set.
            OSError: the address is taken or not ours, or a TLS file cannot be read (``ssl.SSLError`` is one).
        """
        self._certificate = Certificate.of(self._settings.tls_cert, self._settings.tls_key)
        context = self._certificate.context if self._certificate is not None else None
        second = self._settings.tls_listen
        if second is not None and context is None:
            raise ValueError("tls_listen needs tls_cert and tls_key")
        loop = asyncio.get_running_loop()
        hub = Hub(self._settings, self._routes, self.stats, loop)
        hub.dialer = Dialer(hub, self._control_socket)
        hub.on_receipt = self.on_receipt
        await self._bind(hub, self._settings.listen, context if second is None else None)
        if second is not None:
            await self._bind(hub, second, context)
        self._hub = hub
        self._sweep()

    async def _bind(self, hub: Hub, listen: str, context: ssl.SSLContext | None) -> None:
        address = parse_address(listen, "listen")
        try:
            server = await hub.loop.create_server(
                lambda: Client(hub, tls=context is not None),
                address.host,
                address.port,
                ssl=context,
                backlog=BACKLOG,
            )
        except OSError:
            for bound in self._servers:
                bound.close()
            raise
        self._servers.append(server)

    async def drain(self) -> None:
        """Stop serving; returns when every connection is closed. Safe to call twice; cancelling it aborts at once."""
        hub = self._hub
        if hub is None:
            return
        hub.draining = True
        if self._settings.leave_time:
            await self._leave(hub)
        for server in self._servers:
            server.close()
        hub.pool.close()
        for client in [client for client in hub.clients if client.idle]:
            client.transport.close()
        try:
            if hub.clients:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.drain_timeout):
                        await hub.emptied.wait()
        finally:
            for client in list(hub.clients):
                client.abort()
            if self._sweeper is not None:
                self._sweeper.cancel()
        await hub.close()
        await asyncio.sleep(0)  # aborted transports close their sockets in the next turn of the loop

    async def _leave(self, hub: Hub) -> None:
        """Serve on for ``leave_time``. A client that keeps connections uses one that it did not see us close; closing
        idle ones at once would lose the request it is just sending.
        """
        try:
            await asyncio.sleep(self._settings.leave_time)
        finally:
            hub.emptied.clear()  # there may have been moments without clients

    def reset(self, sandbox_id: str) -> int:
        """End every request that this sandbox is serving; how many there were.

        An answer that has begun is cut (RST); a request that has none yet is told what became of the sandbox. Kept
        upstream connections are closed too. Connections that only used the sandbox earlier stay open: their next
        request is routed anew.
        """
        hub = self._hub
        if hub is None:
            return 0
        hub.pool.drop(sandbox_id)
        exchanges = list(hub.exchanges.get(sandbox_id, ()))
        for exchange in exchanges:
            exchange.reset()
        self.stats.resets += len(exchanges)
        return len(exchanges)

    def _sweep(self) -> None:
        """Time-outs of all connections in one pass, so that none needs a timer or a task."""
        hub = self._hub
        assert hub is not None
        hub.now = now = hub.loop.time()
        hub.pool.expire(now)
        if self._certificate is not None:
            self._certificate.refresh(now)
        for client in list(hub.clients):
            client.sweep(now)
        self.stats.open_connections = len(hub.clients)
        self._sweeper = hub.loop.call_later(_interval(self._settings), self._sweep)


def _interval(settings: GatewaySettings) -> float:
    """Seconds between sweeps: often enough for the shortest time-out, at most once a second by default."""
    shortest = min(
        settings.head_timeout,
        settings.idle_timeout,
        settings.keepalive_timeout,
        settings.linger_timeout,
        settings.upstream_idle_timeout,
    )
    return max(0.01, min(1.0, shortest / 4))
