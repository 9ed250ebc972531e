"""One public connection: reads heads, hands each request to an exchange, keeps their order.

The connection is always in one of these phases: between requests, inside a head, inside an exchange, raw (switched
protocols), or discarding (refused; the rest of the upload is read and dropped so that the answer arrives). Requests
that a client sends ahead wait, unread, in a bounded buffer: each is routed only when the one before it is answered.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from appliance.gateway import errors
from appliance.gateway.compose import Origin
from appliance.gateway.endings import Arrival, dead, reset_on_close
from appliance.gateway.errors import Problem
from appliance.gateway.exchange import Exchange
from appliance.gateway.request_head import BadRequest

if TYPE_CHECKING:
    from appliance.gateway.hub import Hub

_LOOK: Final = 0.25
"""Seconds between looks at a connection whose client sends no more."""


class Client(asyncio.Protocol):
    """Made by the listener. No task and no timer of its own: the hub's sweep looks after time-outs."""

    __slots__ = (
        "_buffer", "_deadline", "_discarding", "_finished", "_half_closed", "_overflow", "_paused",
        "_scanned", "_sent", "_tls", "_working", "blocked", "exchange", "hub", "origin", "touched", "transport",
    )  # fmt: skip

    def __init__(self, hub: Hub, *, tls: bool) -> None:
        self.hub = hub
        self.transport: asyncio.Transport
        self.origin: Origin
        self.exchange: Exchange | None = None
        self.blocked = False
        """The client reads too slowly; whoever sends to it must pause."""
        self.touched = hub.now
        """Coarse time of the last byte in either direction."""
        self._tls = tls
        self._buffer = b""  # an incomplete head, or requests sent ahead
        self._deadline: float | None = hub.now + hub.settings.head_timeout
        self._scanned = 0  # bytes of the buffer that hold no end of a head
        self._sent = 0  # bytes, to tell a silent answer from a running one
        self._half_closed = False
        self._finished = False  # raw: our sending side is shut down
        self._discarding = False
        self._paused = False
        self._overflow = False  # reading is paused because of requests sent ahead
        self._working = False  # inside _consume, which must not be entered again

    # asyncio's side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        hub, stats = self.hub, self.hub.stats
        self.transport = cast(asyncio.Transport, transport)
        if len(hub.clients) >= hub.settings.max_connections:
            stats.rejected_connections += 1
            self._deadline = hub.now + hub.settings.linger_timeout
            hub.clients.add(self)
            self.refuse(errors.OVERLOADED)
            return
        stats.connections += 1
        hub.clients.add(self)
        self.transport.set_write_buffer_limits(high=hub.settings.buffer_high)
        peer = transport.get_extra_info("peername")
        self.origin = Origin.of(peer[0] if isinstance(peer, tuple) else "", tls=self._tls)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        hub, exchange = self.hub, self.exchange
        self.touched = hub.now
        hub.stats.bytes_in += len(data)
        if exchange is None:
            if not self._discarding:
                self._consume(data)
        elif exchange.raw:
            if exchange.upstream is not None:
                exchange.upstream.transport.write(data)
        elif exchange.request_done:
            self._stash(data)
        else:
            used = exchange.request_data(data)
            if used < len(data):
                self._stash(data[used:])

    def eof_received(self) -> bool:
        exchange = self.exchange
        if self._tls or exchange is None:
            return False
        self._half_closed = True
        if exchange.raw:
            upstream = exchange.upstream
            if (
                self._finished
                or upstream is None
                or upstream.transport.is_closing()
                or not upstream.transport.can_write_eof()
            ):
                return False
            upstream.transport.write_eof()
            self._deadline = self.hub.now + self.hub.settings.idle_timeout
            return True
        if not exchange.request_done:
            return False
        self._half_closed_during(exchange)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.hub.clients.discard(self)
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()
        self._buffer = b""
        if self.hub.draining and not self.hub.clients:
            self.hub.emptied.set()

    def pause_writing(self) -> None:
        self.blocked = True
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.transport.pause_reading()

    def resume_writing(self) -> None:
        self.blocked = False
        if self.exchange is not None and self.exchange.upstream is not None:
            self.exchange.upstream.transport.resume_reading()

    # Heads ----------------------------------------------------------------------------------------------------

    def _consume(self, data: bytes) -> None:
        """Serve the requests that are complete; keep the rest. Not recursive, however many were sent ahead."""
        scan, self._scanned = self._scanned, 0
        if self._buffer:
            data, self._buffer = self._buffer + data, b""
        self._working = True
        while data and self.exchange is None and not self._discarding and not self.transport.is_closing():
            end = data.find(b"\r\n\r\n", scan)
            if data[:2] == b"\r\n":  # RFC 9112 §2.2: empty lines before a request line are ignored
                data, scan = data[2:], 0
                continue
            if end < 0 or end + 4 > self.hub.settings.max_head:
                data = self._incomplete_head(data)
                break
            scan = 0
            end += 4
            data = self._begin(data, b"") if end == len(data) else self._begin(data[:end], data[end:])
        self._working = False
        self._keep(data)

    def _incomplete_head(self, data: bytes) -> bytes:
        """Wait for the rest, in time and in bounds; returns what to keep."""
        if not 0x41 <= data[0] <= 0x5A and data != b"\r":  # no method starts so: TLS on a plain port, or noise
            self.refuse(Problem(400, "The request head is malformed: it does not start with a method"))
        elif len(data) > self.hub.settings.max_head:
            self.refuse(errors.HEAD_TOO_LARGE)
        else:
            if self._deadline is None:
                self._deadline = self.hub.now + self.hub.settings.head_timeout
            self._scanned = max(0, len(data) - 3)
            return data
        return b""

    def _begin(self, head: bytes, rest: bytes) -> bytes:
        """One request; returns what follows its body."""
        try:
            request = self.hub.requests.read(head)
        except BadRequest as error:
            self.refuse(Problem(error.status, error.message, plain=error.message.startswith("Invalid ")))
            return b""
        self._deadline = None
        exchange = self.exchange = Exchange(self, request)
        exchange.start()
        if self._half_closed and self.exchange is exchange:
            self._half_closed_during(exchange)
        if self.exchange is exchange and rest and not exchange.request_done:
            rest = rest[exchange.request_data(rest) :]
        return rest

    def _stash(self, data: bytes) -> None:
        self._keep(self._buffer + data)

    def _keep(self, data: bytes) -> None:
        self._buffer = data
        if self.exchange is not None and len(data) > self.hub.settings.max_head:
            self._overflow = True
            self.pause_reading()

    # For exchanges --------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes for the client; the caller pauses its source while ``blocked``."""
        size = len(data)
        self.touched = self.hub.now
        self._sent += size
        self.hub.stats.bytes_out += size
        self.transport.write(data)

    def count_out(self, size: int) -> None:
        """Bytes that the kernel has moved to the client."""
        self.touched = self.hub.now
        self._sent += size
        self.hub.stats.bytes_out += size

    def pause_reading(self) -> None:
        """Nobody takes the client's bytes now."""
        self._paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on, unless requests sent ahead fill the buffer."""
        if self._paused and not self._overflow:
            self._paused = False
            self.transport.resume_reading()

    def exchange_done(self, exchange: Exchange) -> None:
        """The answer is complete: on to the next request, or to the end."""
        self.exchange = None
        if not exchange.keep_alive or not exchange.request_done:
            self._finish(read_out=not exchange.request_done)
            return
        self._overflow = False
        self.resume_reading()
        if self._working:
            return
        if self._buffer:
            self._consume(b"")
        if self._half_closed:
            self._close_when_served()

    def _close_when_served(self) -> None:
        """A client that will send no more has had its last answer."""
        if self.exchange is None:
            self.transport.close()

    def switched(self) -> None:
        """Raw from now on; what was sent ahead belongs to the new protocol."""
        data, self._buffer = self._buffer, b""
        exchange = self.exchange
        if exchange is not None and exchange.upstream is not None:
            if data:
                exchange.upstream.transport.write(data)
            if self._half_closed and exchange.upstream.transport.can_write_eof():
                exchange.upstream.transport.write_eof()
        self._overflow = False
        self.resume_reading()

    def finish_sending(self) -> bool:
        """Raw: the upstream has closed its side. False when both sides are closed now."""
        if self._half_closed or self._tls or not self.transport.can_write_eof():
            return False
        self._finished = True
        self.transport.write_eof()
        self._deadline = self.hub.now + self.hub.settings.idle_timeout
        return True

    # Endings --------------------------------------------------------------------------------------------------

    def refuse(self, problem: Problem) -> None:
        """Answer something that never became an exchange, and close."""
        self.hub.stats.answered("invalid", problem.status)
        self.send(errors.render(problem, close=True))
        self._finish(read_out=True)

    def close(self, *, abort: bool) -> None:
        """End in the middle of an answer: by RST, or by closing once everything sent so far has left."""
        if abort:
            self.abort()
        else:
            self.exchange = None
            self.transport.close()

    def abort(self) -> None:
        """RST, at once."""
        reset_on_close(self.transport)
        self.transport.abort()

    def _finish(self, *, read_out: bool) -> None:
        """Close after what was sent. ``read_out``: more may be coming, and closing over it would send RST."""
        self._buffer = b""
        if not read_out or self._half_closed or not self.transport.can_write_eof() or self.transport.is_closing():
            self.transport.close()
            return
        self._discarding = True
        self._deadline = self.hub.now + self.hub.settings.linger_timeout
        self._overflow = False
        self.transport.write_eof()
        self.resume_reading()

    def _half_closed_during(self, exchange: Exchange) -> None:
        """The client will send no more. It may still read (shutdown of one side) or be gone (close), which only shows
        when something is sent to it: a sandbox may take its time, since whoever is gone costs nothing there; the
        control API, where waiting for an answer takes up a place, has ``half_close_grace`` between two bytes.
        """
        exchange.pass_end()
        self._watch_half_closed(exchange, -1, 0.0)

    def _watch_half_closed(self, exchange: Exchange, sent: int, until: float) -> None:
        if exchange is not self.exchange or exchange.raw or self.transport.is_closing():
            return
        now, grace = self.hub.loop.time(), self.hub.settings.half_close_grace
        if self._sent != sent:
            sent, until = self._sent, now + grace
        if dead(self.transport.get_extra_info("socket")) or (exchange.kind == "control" and now >= until):
            self.abort()
        else:
            self.hub.loop.call_later(min(_LOOK, grace), self._watch_half_closed, exchange, sent, until)

    def sweep(self, now: float) -> None:
        """Called about once a second: end what has taken too long."""
        settings, exchange = self.hub.settings, self.exchange
        if self._deadline is not None:
            if now >= self._deadline:
                self._expired()
        elif exchange is None:
            if self.transport.is_closing():  # the client does not take the last bytes
                if now - self.touched >= settings.idle_timeout:
                    self.abort()
            elif now - self.touched >= settings.keepalive_timeout:
                self.transport.close()
        elif not exchange.raw and now - self.touched >= settings.idle_timeout:
            self.hub.stats.timeouts += 1
            exchange.timed_out()

    def _expired(self) -> None:
        self.hub.stats.timeouts += 1
        if self._discarding or self.exchange is not None:
            self.abort()
        elif self._buffer:
            self.refuse(errors.HEAD_TOO_SLOW)
        else:
            self.transport.close()

    @property
    def half_closed(self) -> bool:
        """It has told us that it will send no more."""
        return self._half_closed

    def arrived(self, told: Callable[[bool], None]) -> None:
        """Call ``told`` once it is known whether what is sent next has reached the half-closed client."""
        Arrival(self.hub.loop, self.transport, self.hub.settings.linger_timeout, told)

    def gone(self) -> bool:
        """Whether the peer has closed its side, known to the kernel if not yet to us."""
        if self.transport.is_closing():
            return True
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket").fileno(), select.POLLRDHUP)
        return bool(poll.poll(0))

    @property
    def idle(self) -> bool:
        """No request is being served: a draining gateway may close it."""
        return self.exchange is None and not self._discarding
