"""Making upstream connections: directly, through the runtime's forwarder, or to the control API's Unix socket.

Inside a sandbox a server may listen on 127.0.0.1 only; from outside its port looks closed. So a refused dial is tried
once more through the forwarder (port ``tunnel_port``), which connects from the inside. A few quick attempts cover a
server that is just starting; together they never take longer than ``connect_timeout``. Where the route says so, TLS
is begun on the connection before anything is sent; a service that does not speak it is asked once, not again.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from pathlib import Path

from appliance.gateway import errors
from appliance.gateway.errors import Problem
from appliance.gateway.hub import Hub
from appliance.gateway.pool import CONTROL_KEY, Key
from appliance.gateway.routes import Refusal, Route
from appliance.gateway.upstream import Upstream


class DialError(Exception):
    """No connection; ``problem`` is the answer for the client."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Dialer:
    """Stateless but for its counters; every method closes what it opened when it is cancelled."""

    def __init__(self, hub: Hub, control_socket: Path) -> None:
        self._hub = hub
        self._control_socket = str(control_socket)
        self._tls = _unverified()

    async def control(self) -> Upstream:
        """A new connection to the control API. Raises DialError (503)."""
        stats = self._hub.stats
        stats.dials += 1
        try:
            async with asyncio.timeout(self._hub.settings.connect_timeout):
                _, upstream = await self._hub.loop.create_unix_connection(
                    lambda: Upstream(self._hub, CONTROL_KEY), self._control_socket
                )
        except (OSError, TimeoutError):
            stats.dial_failures += 1
            raise DialError(errors.CONTROL_DOWN) from None
        return upstream

    async def sandbox(self, route: Route, asked: int) -> Upstream:
        """A new connection to ``route``, which serves the port ``asked`` for.

        Raises DialError: port closed, no TLS where there should be, or what the routes say meanwhile.
        """
        self._hub.stats.dials += 1
        upstream = await self._reach(route)
        if upstream is None:
            self._hub.stats.dial_failures += 1
            raise DialError(self._explain(route, asked))
        if route.tls and not await self._secure(upstream):
            self._hub.stats.dial_failures += 1
            raise DialError(errors.no_tls(route.sandbox_id, asked))
        return upstream

    async def _reach(self, route: Route) -> Upstream | None:
        settings = self._hub.settings
        try:
            async with asyncio.timeout(settings.connect_timeout):
                for attempt in range(settings.connect_attempts):
                    if attempt:
                        await asyncio.sleep(settings.connect_backoff * 2 ** (attempt - 1))
                    upstream = await self._attempt(route)
                    if upstream is not None:
                        return upstream
        except TimeoutError:
            pass
        return None

    def _explain(self, route: Route, asked: int) -> Problem:
        """Nothing answered: maybe because the sandbox has gone in the meantime."""
        answer = self._hub.routes.resolve(route.sandbox_id, asked)
        if isinstance(answer, Refusal):
            return errors.refused(answer, route.sandbox_id)
        return errors.port_closed(route.sandbox_id, asked)

    async def _attempt(self, route: Route) -> Upstream | None:
        key = (route.sandbox_id, route.host, route.port)
        try:
            return await self._connect(key, route.host, route.port)
        except ConnectionRefusedError:
            return await self._tunnel(key, route)
        except OSError:
            return None

    async def _secure(self, upstream: Upstream) -> bool:
        """Begin TLS; False when the service does not speak it, and the connection is closed."""
        plain, patience = upstream.transport, self._hub.settings.connect_timeout
        try:
            transport = await self._hub.loop.start_tls(plain, upstream, self._tls, ssl_handshake_timeout=patience)
        except OSError:  # ssl.SSLError is one
            plain.abort()
            return False
        except BaseException:
            plain.abort()
            raise
        if transport is None:  # closed as the handshake ended
            return False
        upstream.secured(transport)
        return True

    async def _connect(self, key: Key, host: str, port: int) -> Upstream:
        _, upstream = await self._hub.loop.create_connection(lambda: Upstream(self._hub, key), host, port)
        return upstream

    async def _tunnel(self, key: Key, route: Route) -> Upstream | None:
        try:
            upstream = await self._connect(key, route.host, route.tunnel_port)
        except OSError:
            return None
        line = json.dumps({"port": route.port, "token": route.token or ""}).encode() + b"\n"
        try:
            accepted = await upstream.greet(line) == b"ok"
        except ConnectionError:
            accepted = False
        except BaseException:
            upstream.transport.abort()
            raise
        if not accepted:
            upstream.transport.abort()
            return None
        self._hub.stats.tunnels += 1
        return upstream


def _unverified() -> ssl.SSLContext:
    """Services inside a sandbox sign their own certificates: contract §1.6, ``httpsPorts``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context
