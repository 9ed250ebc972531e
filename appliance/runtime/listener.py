"""An ASGI application on a port: uvicorn's httptools protocol on our own loop.

uvicorn's ``Server`` is left out on purpose: it wakes ten times a second, takes the signals, and exits the process
when a port is taken. A box with a hundred idle sandboxes must be idle. What remains of it is small: accept, count the
head, drain at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from socket import IPPROTO_TCP, TCP_INFO
from typing import Any

from httptools import HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from appliance.runtime.http import DOUBT, INTAKE, SENDFILE
from appliance.runtime.intake import WORTH, Intake
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.transport import Body, Writer

_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 53\r\n\r\n{"code":431,"message":"the request head is too large"}'
)
_MALFORMED = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
    b'content-length: 52\r\n\r\n{"code":400,"message":"the request is not HTTP/1.1"}'
)
_TCP_CLOSE = 7
_LOOK = 0.25
"""Seconds between looks at a connection whose client sends no more."""
_STOPPED = b'{"code":503,"message":"the sandbox\'s runtime stopped before the request was answered"}'
_STOPPED_HEAD = (
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(_STOPPED)),
    (b"connection", b"close"),
)


async def _stopped(cycle: Any) -> None:
    """The answer to a request that was cancelled before it had one: applications answer everything else themselves."""
    await cycle.send({"type": "http.response.start", "status": 503, "headers": _STOPPED_HEAD})
    await cycle.send({"type": "http.response.body", "body": _STOPPED, "more_body": False})


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the request head, and with ``transport.py`` between it and the socket."""

    max_head = 64 * 1024
    _head = 0
    _unparsed = 0
    """Bytes of body still to come that the parser must not see: it lost count while an ``Intake`` read."""
    _ended = False
    """The client sends no more, but may still read."""
    _doubt: Callable[[], None] | None = None
    """To be called when it ends: the application's way to send something in the middle of a silent answer."""
    _body: Body
    transport: Any

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = Writer(transport, self.loop)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        cycle: Any = self.cycle  # its task has not run yet: what is replaced here is what it will use
        self._body = Body(cycle, self.flow)
        cycle.receive = self._body.receive
        cycle.send_500_response = partial(_stopped, cycle)
        extensions: dict[str, Any] = {
            SENDFILE: partial(self._sendfile, cycle),
            INTAKE: partial(self._intake, cycle, self._body, self.headers),
            DOUBT: self._when_in_doubt,
        }
        self.scope["extensions"] = extensions

    def on_body(self, body: bytes) -> None:
        if not self.cycle.response_complete:
            self._body.feed(body)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Half a close looks like a whole one until something is sent: RST comes back where nobody reads. So answers
        go on, silent streams are asked to send a keepalive, and nothing more is read.
        """
        cycle: Any = self.cycle
        if cycle is None or cycle.more_body or self._unparsed or (cycle.response_complete and not self.pipeline):
            self.transport.flush()  # what was answered in this turn, before asyncio closes the transport below it
            return False
        self._ended = True
        if self._doubt is not None:
            self._doubt()
        self._look()
        return True

    def _when_in_doubt(self, callback: Callable[[], None]) -> None:
        """The ASGI extension: what to call when the client sends no more."""
        self._doubt = callback
        if self._ended:
            callback()

    def _look(self) -> None:
        """A connection that is not read shows a reset only when it is looked at."""
        if self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(IPPROTO_TCP, TCP_INFO, 1)[0] == _TCP_CLOSE:
            self.transport.abort()
        else:
            self.loop.call_later(_LOOK, self._look)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP is told so, in JSON; an answer that has begun is cut instead of being written into."""
        cycle: Any = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.transport.write(_MALFORMED)
            self.transport.close()

    def on_response_complete(self) -> None:
        self._doubt = None
        last = not self.pipeline
        super().on_response_complete()
        if self._ended and last:
            self.transport.close()

    async def _sendfile(self, cycle: Any, descriptor: int, offset: int, count: int) -> int:
        """The ASGI extension: a part of a file as the next part of the body, whose length the head has told."""
        if self.flow.write_paused:
            await self.flow.drain()
        if cycle.disconnected:
            return 0
        sent: int = await self.transport.sendfile(descriptor, offset, count)
        cycle.expected_content_length -= sent
        return sent

    def _intake(self, cycle: Any, body: Body, headers: list[tuple[bytes, bytes]]) -> Intake | None:
        """The ASGI extension: the rest of a body of known length. The connection is read by nobody else meanwhile."""
        if body.waiting or not cycle.more_body or cycle.disconnected:
            return None
        left = self._unparsed or _announced(headers) - body.received
        if left < WORTH:
            return None
        self.flow.pause_reading()
        self._unparsed = 0
        return Intake(self.transport.get_extra_info("socket").dup(), left, partial(self._release, cycle))

    def _release(self, cycle: Any, intake: Intake) -> None:
        """The intake is over: what is left of the body comes through ``data_received``, then the next request."""
        if intake.gone:
            cycle.disconnected = True
            self.transport.abort()
            return
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self._unparsed = intake.left
        cycle.more_body = intake.left > 0
        cycle.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self._unparsed:
            self._unset_keepalive_if_required()
            piece, data = data[: self._unparsed], data[self._unparsed :]
            self._unparsed -= len(piece)
            self.cycle.more_body = self._unparsed > 0
            self.on_body(piece)
        if data:
            super().data_received(data)

    def on_message_begin(self) -> None:
        self._head = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def _count(self, size: int) -> None:
        self._head += size
        if self._head > self.max_head and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()
            raise ValueError("request head too large")  # stops the parser


def _announced(headers: list[tuple[bytes, bytes]]) -> int:
    """``Content-Length``; 0 where the body comes in chunks."""
    found = dict(headers)
    return 0 if b"transfer-encoding" in found else int(found.get(b"content-length", b"0"))


class Listener:
    """One application on one port."""

    def __init__(self, app: Any, settings: RuntimeSettings) -> None:
        self._config = Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            date_header=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(settings.keepalive_timeout),
        )
        self._config.load()
        self._state = ServerState()
        self._server: asyncio.Server | None = None
        self._drain = settings.shutdown_timeout
        self._protocol = type("Protocol", (_Protocol,), {"max_head": settings.max_head})

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises ``OSError`` when it is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: self._protocol(config=self._config, server_state=self._state, app_state={}, _loop=loop),
            host,
            port,
            backlog=2048,
        )
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    def stop_accepting(self) -> None:
        """Close the listening socket and idle connections; requests in flight go on."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._state.connections):
            connection.shutdown()

    async def drain(self) -> None:
        """Give requests in flight ``shutdown_timeout`` seconds, then cancel them."""
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=self._drain)
        for task in list(self._state.tasks):
            task.cancel()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=1)
        for connection in list(self._state.connections):
            with contextlib.suppress(Exception):
                connection.transport.abort()
