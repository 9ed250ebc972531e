"""One connection to a sandbox or to the control API, and the reading of its answers.

A connection serves one exchange at a time. It is idle in the pool, or waits for a head, or passes a body on, or (after
101) passes raw bytes. Bytes that come when nothing was asked end the connection: they could only be taken for the
answer to somebody else's request.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final, cast

from appliance.gateway.bodies import Body, BodyError, ChunkedBody, LengthBody, UntilClose
from appliance.gateway.bulk import BULK, Relay, descriptor
from appliance.gateway.endings import reset_on_close
from appliance.gateway.response_head import BadResponse, ResponseHead

if TYPE_CHECKING:
    from appliance.gateway.exchange import Exchange
    from appliance.gateway.hub import Hub
    from appliance.gateway.pool import Key

GREETING_LIMIT: Final = 64
"""Bytes of the forwarder's one-line reply."""
SALVAGE_LIMIT: Final = 1 << 20
"""Bytes of an early answer that are still read after a write has failed."""


class Upstream(asyncio.Protocol):
    """Created by ``dial.py``; owned by an exchange or by the pool."""

    __slots__ = (
        "_body",
        "_buffer",
        "_greeting",
        "_head",
        "_hub",
        "_relay",
        "exchange",
        "fresh",
        "idle_since",
        "key",
        "transport",
    )

    def __init__(self, hub: Hub, key: Key) -> None:
        self._hub = hub
        self.key = key
        self.transport: asyncio.Transport
        self.exchange: Exchange | None = None
        self.fresh = True
        """Not yet used: a failure before the first byte of an answer is the server's, not a stale connection's."""
        self.idle_since = 0.0
        self._buffer = bytearray()  # an incomplete head, at most max_head
        self._head: ResponseHead | None = None  # the answer whose body is being passed on
        self._body: Body | None = None
        self._greeting: asyncio.Future[bytes] | None = None
        self._relay: Relay | None = None

    # asyncio's side -------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._hub.settings.buffer_high)

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS has begun: from here on ``transport`` carries the plain text."""
        self.transport = transport
        transport.set_write_buffer_limits(high=self._hub.settings.buffer_high)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if self._body is not None:
            self._pass_body(data)
        elif exchange is None:
            self._unasked(data)
        elif exchange.raw:
            exchange.client.send(data)
        else:
            self._read_head(data)

    def eof_received(self) -> bool:
        exchange = self.exchange
        if exchange is not None and exchange.raw and self.transport.can_write_eof():  # TLS knows no half-closed side
            return exchange.upstream_eof()
        self._ended(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self.exchange is not None:
            self._salvage()
        self._ended(exc)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.pause_reading()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.client.resume_reading()

    # The forwarder's greeting ---------------------------------------------------------------------------------

    async def greet(self, line: bytes) -> bytes:
        """Send one line, return the reply line without its end. Raises ConnectionError when there is none."""
        self._greeting = asyncio.get_running_loop().create_future()
        self.transport.write(line)
        try:
            return await self._greeting
        finally:
            self._greeting = None
            self._buffer.clear()

    def _unasked(self, data: bytes) -> None:
        greeting = self._greeting
        if greeting is None or greeting.done():
            self._hub.pool.discard(self)
            self.transport.abort()
            return
        self._buffer += data
        end = self._buffer.find(b"\n")
        if end >= 0:
            greeting.set_result(bytes(self._buffer[:end]))
        elif len(self._buffer) > GREETING_LIMIT:
            greeting.set_exception(ConnectionError("the forwarder's reply is too long"))

    # Answers --------------------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        if self._buffer:
            scan = max(0, len(self._buffer) - 3)
            self._buffer += data
            if self._buffer.find(b"\r\n\r\n", scan) < 0:
                self._limit_head(len(self._buffer))
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        while (end := data.find(b"\r\n\r\n")) >= 0:
            try:
                head = self._hub.responses.read(data[: end + 4])
            except BadResponse:
                self.fail()
                return
            data = data[end + 4 :]
            if head.status >= 200 or head.status == 101:
                self._begin(head, data)
                return
            self._exchange().informational(head)
        self._buffer += data
        self._limit_head(len(data))

    def _limit_head(self, size: int) -> None:
        if size > self._hub.settings.max_head:
            self.fail()

    def _begin(self, head: ResponseHead, rest: bytes) -> None:
        exchange = self._exchange()
        if head.status == 101:
            if exchange.request.upgrade is None:
                self.fail()
            else:
                exchange.switch(head, rest)
            return
        decode = exchange.request.http10
        body = head.body(exchange.request.method, decode=decode)
        first = exchange.response_head(
            head, delimited=not isinstance(body, UntilClose), decoded=decode and head.fields.chunked
        )
        self._head = head
        if body is None:
            exchange.completing()
            exchange.client.send(first)
            self._finish(clean=not rest)
        elif rest:
            self._body = body
            self._pass_body(rest, first)
        else:
            self._body = body
            exchange.client.send(first)

    def _pass_body(self, data: bytes, first: bytes = b"") -> None:
        body, exchange = self._body, self._exchange()
        assert body is not None
        try:
            used = body.feed(data)
        except BodyError as error:
            self._lose(error)
            return
        clean = used == len(data)
        piece = data if clean else data[:used]
        if isinstance(body, ChunkedBody) and body.payload is not None:
            piece = b"".join(body.payload)
            body.payload.clear()
        if body.done:
            exchange.completing()
        exchange.client.send(first + piece if first else piece)
        if body.done:
            self._finish(clean=clean)
        elif isinstance(body, LengthBody) and body.left >= BULK and not exchange.client.blocked:
            self._relay_body(exchange, body)

    def _relay_body(self, exchange: Exchange, body: LengthBody) -> None:
        """Let the kernel move what is left of a large body; stay with the ordinary way where it cannot."""
        source, sink = descriptor(self.transport), descriptor(exchange.client.transport)
        if source is None or sink is None:
            return
        with contextlib.suppress(OSError):
            self._relay = Relay(self._hub.loop, source, sink, body.left, exchange.client.count_out, self._relayed)
            self.transport.pause_reading()

    def _relayed(self, left: int, error: OSError | None, sink: bool) -> None:
        self._relay = None
        if sink:
            self._exchange().client.abort()  # its end lets go of us
        elif left:
            self._ended(error or ConnectionResetError("closed in the middle of a body"))
        else:
            self.transport.resume_reading()
            self._finish(clean=True)

    def _finish(self, *, clean: bool) -> None:
        """The answer is complete; ``clean``: nothing came after its end."""
        exchange, head = self._exchange(), self._head
        assert head is not None
        exchange.completing()  # where only the upstream's end shows that the answer is whole
        self._detach()
        reusable = head.reusable and not exchange.end_passed
        if not (clean and exchange.request_done and reusable and self._keep(exchange)):
            self.transport.abort()
        exchange.response_done()

    def _keep(self, exchange: Exchange) -> bool:
        if self.transport.is_closing() or self._hub.draining:
            return False
        self.fresh = False
        self.idle_since = self._hub.loop.time()
        if not self._hub.pool.give(self):
            return False
        if exchange.client.blocked:  # it has paused us
            self.transport.resume_reading()
        return True

    # Endings --------------------------------------------------------------------------------------------------

    def fail(self) -> None:
        """Whatever this is, it does not answer in HTTP."""
        self._lose(BadResponse("no valid answer"))

    def release(self) -> None:
        """The exchange does not want an answer any more: close at once, the server sees its client vanish.

        The last bytes of a raw splice still leave, within ``linger_timeout``.
        """
        raw = self.exchange is not None and self.exchange.raw
        if self.exchange is not None and self.exchange.end_passed:  # it has seen our end: only RST says more
            reset_on_close(self.transport)
        self._detach()
        if raw and self.transport.get_write_buffer_size():
            self.transport.close()
            self._hub.loop.call_later(self._hub.settings.linger_timeout, self.transport.abort)
        else:
            self.transport.abort()

    def _ended(self, exc: Exception | None) -> None:
        if self._greeting is not None and not self._greeting.done():
            self._greeting.set_exception(exc or ConnectionResetError("the forwarder hung up"))
        if self.exchange is None:
            self._hub.pool.discard(self)
        elif isinstance(self._body, UntilClose) and exc is None:
            self._finish(clean=False)
        else:
            self._lose(exc)

    def _lose(self, exc: Exception | None) -> None:
        exchange = self._exchange()
        self._detach()
        self.transport.abort()
        exchange.upstream_lost(exc)

    def _detach(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream = None
        if self._relay is not None:
            self._relay.close()
            self._relay = None
        self.exchange = self._head = self._body = None
        self._buffer.clear()

    def _salvage(self) -> None:
        """A write failed; an answer sent before the server hung up (413, say) may still wait in the socket."""
        if self.transport.get_extra_info("sslcontext") is not None:
            return
        try:
            descriptor = self.transport.get_extra_info("socket").fileno()
            budget = SALVAGE_LIMIT
            while budget > 0 and self.exchange is not None and (data := os.read(descriptor, 65536)):
                budget -= len(data)
                self.data_received(data)
        except OSError:
            pass

    def _exchange(self) -> Exchange:
        assert self.exchange is not None
        return self.exchange
