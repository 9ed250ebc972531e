"""One connection of a sandbox: read the name it asks for, connect to that server, carry bytes both ways.

The bytes of a host with header rules are carried to and from a proxy in this process (``proxying.py``). A sandbox that
may reach the address it chose gets there unexamined, when no rule is about what it asks for.

Back-pressure goes through: a side that does not read stops the other from being read. Each direction ends by itself
(half-close). There is no limit on how long or how slowly a transfer runs; dead peers are found by TCP keepalive, and
how many connections a sandbox may have is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Any, cast

from appliance.dns.lookup import LookupFailed
from appliance.embedded.filter.heads import ClientHello, Inspector, Refused
from appliance.embedded.filter.policies import Policies, Ruling, reachable
from appliance.embedded.filter.proxying import Proxy, Server
from appliance.embedded.filter.sides import BUFFER, Far, Reading, is_local, keep_alive, reset

log = logging.getLogger(__name__)
HEAD_TIMEOUT = 15.0
"""Seconds for the bytes that tell the name."""
SILENCE = 3.0
"""Seconds after which a client that has sent nothing, and may reach the address it chose, is taken to listen first."""
DIAL_TIMEOUT = 10.0
"""Seconds to reach one address."""
MAX_DIALS = 3
"""Addresses of one name that are tried."""
PER_SANDBOX = 512
"""Connections of one sandbox at once; one more is reset. With all their buffers full they hold 128 MiB."""
MAX_CONNECTIONS = 16384

Find = Callable[[str], Awaitable[tuple[IPv4Address, ...]]]
_ORIGINAL_DST, _SOCKADDR_IN = 80, 16


def original(own: socket.socket) -> IPv4Address | None:
    """The address the client connected to before the firewall led it here; None: it came by itself."""
    try:
        return IPv4Address(own.getsockopt(socket.SOL_IP, _ORIGINAL_DST, _SOCKADDR_IN)[4:8])
    except OSError:
        return None


class Carriers:
    """All connections, by sandbox."""

    def __init__(
        self,
        policies: Policies,
        find: Find,
        proxy: Proxy,
        *,
        per_sandbox: int = PER_SANDBOX,
        limit: int = MAX_CONNECTIONS,
        chosen: Callable[[socket.socket], IPv4Address | None] = original,
    ) -> None:
        """``find`` gives the addresses of a name; it may raise ``LookupFailed``. ``limit`` holds for all together."""
        self.policies, self.find, self.proxy, self.chosen = policies, find, proxy, chosen
        self._per_sandbox, self._limit = per_sandbox, limit
        self._open: dict[str, set[Carrier]] = {}
        self._count = 0

    def __len__(self) -> int:
        """Connections that are open."""
        return self._count

    def add(self, carrier: Carrier) -> bool:
        """False: the sandbox is unknown, or there are too many."""
        mine = self._open.setdefault(carrier.sandbox, set())
        if not self.policies.known(carrier.sandbox) or len(mine) >= self._per_sandbox or self._count >= self._limit:
            self._tidy(carrier.sandbox)
            return False
        mine.add(carrier)
        self._count += 1
        return True

    def remove(self, carrier: Carrier) -> None:
        """Once it is closed."""
        mine = self._open.get(carrier.sandbox, set())
        if carrier in mine:
            mine.remove(carrier)
            self._count -= 1
        self._tidy(carrier.sandbox)

    def _tidy(self, sandbox: str) -> None:
        if not self._open.get(sandbox):
            self._open.pop(sandbox, None)

    def enforce(self, sandbox: str) -> None:
        """Reset what the sandbox's policy, as it is now, does not allow."""
        for carrier in list(self._open.get(sandbox, ())):
            carrier.enforce()

    def close(self) -> None:
        """Reset everything."""
        for mine in list(self._open.values()):
            for carrier in list(mine):
                carrier.abort()


class Carrier(Reading):
    """The sandbox's side; ``port`` is where the server is dialled."""

    def __init__(self, carriers: Carriers, inspector: Inspector, port: int) -> None:
        self._carriers, self._port = carriers, port
        self._inspector: Inspector | None = inspector
        self._tls = isinstance(inspector, ClientHello)
        self.sandbox = ""
        self._transport: asyncio.Transport | None = None
        self._far: Far | None = None
        self._held = bytearray()
        self._name: str | None = None
        self._address: IPv4Address | None = None
        self._chosen: IPv4Address | None = None
        self._ruling: Ruling | None = None
        self._proxy: asyncio.Task[bool] | None = None
        self._dial: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, as all below that have no underscore and are not named otherwise."""
        self._transport = cast(asyncio.Transport, transport)
        self.sandbox = str(transport.get_extra_info("peername")[0])
        self._transport.set_write_buffer_limits(BUFFER)
        if not self._carriers.add(self):
            self.abort()
            return
        keep_alive(self._transport)
        self._chosen = self._carriers.chosen(transport.get_extra_info("socket"))
        self._timer = asyncio.get_running_loop().call_later(SILENCE, self._silent)

    def _silent(self) -> None:
        """Some protocols begin with the server; a head that has begun gets its time."""
        if not self._held and self._straight():
            self._begin(self._reach())
            return
        self._timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT - SILENCE, self._late)

    def _late(self) -> None:
        if self._straight():
            self._begin(self._reach())
        else:
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Look at the bytes, and pass them on once the server is there."""
        try:
            name = self._inspector.feed(data) if self._inspector is not None else None
        except Refused as refused:
            if self._dial is not None or not self._straight():
                log.info("%s: port %d refused: %s", self.sandbox, self._port, refused)
                self.abort()
                return
            self._held += data
            self._begin(self._reach())
            return
        if self._far is not None:
            self._far.write(data)
            return
        self._held += data
        if name is not None and self._dial is None:
            self._named(name)

    def _named(self, name: str) -> None:
        self._name, policies = name, self._carriers.policies
        self._ruling = policies.ruling(self.sandbox, name)
        if self._ruling is not None:
            self._inspector = None  # the proxy reads every head
            self._begin(self._join_proxy(name, self._ruling))
        elif self._straight():
            self._begin(self._reach())
        elif policies.admits(self.sandbox, name):
            self._begin(self._connect(name))
        else:
            log.info("%s: port %d refused: %r is not allowed", self.sandbox, self._port, name[:253])
            self.abort()

    def _straight(self) -> bool:
        """Whether the sandbox may reach the address it chose, whoever is there."""
        chosen = self._chosen
        return chosen is not None and self._carriers.policies.reaches(self.sandbox, chosen) and not is_local(chosen)

    def _begin(self, dial: Coroutine[Any, Any, None]) -> None:
        assert self._transport is not None
        self._transport.pause_reading()
        self._stop_timer()
        self._dial = asyncio.create_task(dial)
        self._dial.add_done_callback(self._dialled)

    async def _reach(self) -> None:
        """The server at the chosen address; what is said there is nobody's business. Raises ``LookupFailed``."""
        self._inspector, self._address = None, self._chosen
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(DIAL_TIMEOUT):
                _, far = await asyncio.get_running_loop().create_connection(
                    lambda: Far(self), str(self._chosen), self._port
                )
            self._joined(far)
            return
        raise LookupFailed(f"{self._chosen} does not answer")

    async def _join_proxy(self, name: str, ruling: Ruling) -> None:
        """The host's addresses decide whether it may be reached; dialling them is left to the proxy."""
        found, policies = reachable(await self._carriers.find(name)), self._carriers.policies
        allowed = [one for one in found if policies.keeps(self.sandbox, name, one) and not is_local(one)]
        if not allowed:
            raise LookupFailed(f"{name}: no address that is public and allowed")
        self._address = allowed[0]
        near, own = socket.socketpair()
        near.setblocking(False)
        own.setblocking(False)
        server = Server(name, tuple(allowed[:MAX_DIALS]), self._port, self._tls)
        self._proxy = self._carriers.proxy(own, server, ruling)
        self._proxy.add_done_callback(self._proxied)
        _, far = await asyncio.get_running_loop().create_connection(lambda: Far(self), sock=near)
        self._joined(far)

    def _proxied(self, task: asyncio.Task[bool]) -> None:
        if not task.cancelled() and (task.exception() is not None or not task.result()):
            self.abort()

    async def _connect(self, name: str) -> None:
        addresses = reachable(await self._carriers.find(name))
        loop = asyncio.get_running_loop()
        for address in addresses[:MAX_DIALS]:
            if is_local(address):
                continue
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(DIAL_TIMEOUT):
                    self._address = address
                    _, far = await loop.create_connection(lambda: Far(self), str(address), self._port)
                self._joined(far)
                return
        raise LookupFailed(f"{name}: no address that is public and answers on port {self._port}")

    def _dialled(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            if not isinstance(error, LookupFailed):
                log.error("%s: %s: %r", self.sandbox, self._name, error)
                self.abort()
                return
            log.info("%s: port %d: %s", self.sandbox, self._port, error)
            self.abort()

    def _joined(self, far: Far) -> None:
        assert self._transport is not None
        if self._transport.is_closing() or not self._allowed():
            far.abort()
            self.abort()
            return
        self._far = far
        far.write(bytes(self._held))
        self._held.clear()
        if self._ended:
            far.end()
        elif not far.full:
            self._transport.resume_reading()

    def _allowed(self) -> bool:
        return self._carriers.policies.keeps(self.sandbox, self._name or "", self._address)

    def enforce(self) -> None:
        """The policy has changed: go on only if it allows this connection. One that has chosen nobody yet may."""
        policies, chosen = self._carriers.policies, self._name is not None or self._address is not None
        ruled = policies.ruling(self.sandbox, self._name or "") is not self._ruling
        if not policies.known(self.sandbox) or (chosen and (ruled or not self._allowed())):
            self.abort()

    def write(self, data: bytes) -> None:
        """From the server to the sandbox."""
        if self._transport is not None:
            self._transport.write(data)

    def end(self) -> None:
        """The server sends no more."""
        if self._transport is not None and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
        if self._ended:
            self._close()

    def eof_received(self) -> bool:
        """The sandbox sends no more; the other direction goes on."""
        self._ended = True
        if self._far is None:
            if self._dial is None and self._straight():
                self._begin(self._reach())
            elif self._dial is None:
                return False
        else:
            self._far.end()
            if self._far.ended:
                self._close()
        return True

    def pause_writing(self) -> None:
        """The sandbox does not read: stop reading from the server."""
        if self._far is not None:
            self._far.reading(False)

    def resume_writing(self) -> None:
        """It reads again."""
        if self._far is not None:
            self._far.reading(True)

    def reading(self, on: bool) -> None:
        """Whether the sandbox's bytes are wanted."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def _close(self) -> None:
        """Both directions have ended: send what is buffered, then close."""
        if self._transport is not None:
            self._transport.close()
        if self._far is not None:
            self._far.close()

    def abort(self) -> None:
        """Reset both sides."""
        if self._transport is not None:
            reset(self._transport)
        if self._far is not None:
            self._far.abort()
        if self._proxy is not None:
            self._proxy.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of it stays."""
        self._stop_timer()
        self._carriers.remove(self)
        if self._dial is not None:
            self._dial.cancel()
        if self._proxy is not None:
            self._proxy.cancel()
        if self._far is not None:
            self._far.abort() if exc is not None or not self._ended else self._far.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
