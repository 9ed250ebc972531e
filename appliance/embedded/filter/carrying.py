"""One connection of a sandbox: read the name it asks for, connect to that server, carry bytes both ways.

Back-pressure goes through: a side that does not read stops the other from being read. Each direction ends by itself
(half-close). There is no limit on how long or how slowly a transfer runs; dead peers are found by TCP keepalive, and
how many connections a sandbox may have is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv4Address
from typing import cast

from appliance.dns.lookup import LookupFailed
from appliance.embedded.filter.heads import Inspector, Refused
from appliance.embedded.filter.policies import Policies, reachable

log = logging.getLogger(__name__)
HEAD_TIMEOUT = 15.0
"""Seconds for the bytes that tell the name."""
DIAL_TIMEOUT = 10.0
"""Seconds to reach one address."""
MAX_DIALS = 3
"""Addresses of one name that are tried."""
BUFFER = 64 * 1024
"""Bytes kept per direction before reading stops, and read at once."""
PER_SANDBOX = 512
"""Connections of one sandbox at once; one more is reset. With all their buffers full they hold 128 MiB."""
MAX_CONNECTIONS = 16384

_SCRATCH = memoryview(bytearray(BUFFER))
"""What is read is copied or written on before the loop reads again."""

Find = Callable[[str], Awaitable[tuple[IPv4Address, ...]]]


class Carriers:
    """All connections, by sandbox."""

    def __init__(
        self, policies: Policies, find: Find, *, per_sandbox: int = PER_SANDBOX, limit: int = MAX_CONNECTIONS
    ) -> None:
        """``find`` gives the addresses of a name; it may raise ``LookupFailed``. ``limit`` holds for all together."""
        self.policies, self.find = policies, find
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


class _Reading(asyncio.BufferedProtocol):
    """Bytes as they come, at most ``BUFFER`` at once."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by asyncio, and ``buffer_updated`` right after it has read into it."""
        return _SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on a copy."""
        self.data_received(bytes(_SCRATCH[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """What was read."""
        raise NotImplementedError


class Carrier(_Reading):
    """The sandbox's side; ``port`` is where the server is dialled."""

    def __init__(self, carriers: Carriers, inspector: Inspector, port: int) -> None:
        self._carriers, self._inspector, self._port = carriers, inspector, port
        self.sandbox = ""
        self._transport: asyncio.Transport | None = None
        self._far: Far | None = None
        self._held = bytearray()
        self._name: str | None = None
        self._address: IPv4Address | None = None
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
        self._timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT, self.abort)

    def data_received(self, data: bytes) -> None:
        """Look at the bytes, and pass them on once the server is there."""
        try:
            name = self._inspector.feed(data)
        except Refused as refused:
            log.info("%s: port %d refused: %s", self.sandbox, self._port, refused)
            self.abort()
            return
        if self._far is not None:
            self._far.write(data)
            return
        self._held += data
        if name is not None and self._dial is None:
            self._named(name)

    def _named(self, name: str) -> None:
        self._name = name
        if not self._carriers.policies.admits(self.sandbox, name):
            log.info("%s: port %d refused: %r is not allowed", self.sandbox, self._port, name[:253])
            self.abort()
            return
        assert self._transport is not None
        self._transport.pause_reading()
        self._stop_timer()
        self._dial = asyncio.create_task(self._connect(name))
        self._dial.add_done_callback(self._dialled)

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
        """The policy has changed: go on only if it allows this connection. One that has named nobody yet may."""
        if not self._carriers.policies.known(self.sandbox) or (self._name is not None and not self._allowed()):
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
            if self._dial is None:
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

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing of it stays."""
        self._stop_timer()
        self._carriers.remove(self)
        if self._dial is not None:
            self._dial.cancel()
        if self._far is not None:
            self._far.abort() if exc is not None or not self._ended else self._far.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Far(_Reading):
    """The server's side of a ``Carrier``."""

    def __init__(self, near: Carrier) -> None:
        self._near = near
        self._transport: asyncio.Transport | None = None
        self.ended = False
        """The server sends no more."""
        self.full = False
        """It does not read fast enough just now."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER)
        keep_alive(self._transport)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self._near.write(data)

    def eof_received(self) -> bool:
        """Pass on; the other direction goes on."""
        self.ended = True
        self._near.end()
        return True

    def pause_writing(self) -> None:
        """The server does not read: stop reading from the sandbox."""
        self.full = True
        self._near.reading(False)

    def resume_writing(self) -> None:
        """It reads again."""
        self.full = False
        self._near.reading(True)

    def reading(self, on: bool) -> None:
        """Whether the server's bytes are wanted."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def write(self, data: bytes) -> None:
        """From the sandbox to the server."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """The sandbox sends no more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what is buffered, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset."""
        if self._transport is not None:
            reset(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A reset is passed on; an orderly end was already."""
        if exc is not None or not self.ended:
            self._near.abort()


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the peer sees an error and not the end of an answer."""
    own = transport.get_extra_info("socket")
    if own is not None and not transport.is_closing():
        with suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def keep_alive(transport: asyncio.Transport) -> None:
    """Find a dead peer within some two minutes, however idle the connection is."""
    own = transport.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4)):
        own.setsockopt(socket.IPPROTO_TCP, option, value)


def is_local(address: IPv4Address) -> bool:
    """Whether the address is one of this machine's own, on which a sandbox has no business."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # nothing is sent: only the route is looked up
        except OSError:
            return False  # unreachable: the dial will say so
        return bool(probe.getsockname()[0] == str(address))
