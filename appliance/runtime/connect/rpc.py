"""Dispatch of Connect calls: decode, call the service's handler, encode, map errors.

Three shapes of handler, each a small dataclass that names its request type:

* ``Unary``: ``handler(call, request) -> response``
* ``ServerStream``: ``handler(call, request, sink)``, which sends messages until it returns
* ``ClientStream``: ``handler(call, requests) -> response``, where ``requests`` is an async iterator

A stream always answers HTTP 200 and carries its error in the last frame. A client that goes away does not cancel a
server stream's handler: ``sink.closed`` is set and sends become no-ops, so that a handler always unwinds through its
own code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from appliance.runtime.connect import envelope
from appliance.runtime.connect.call import Call
from appliance.runtime.connect.codec import STREAM, UNARY, Codec
from appliance.runtime.connect.errors import Code, ConnectError, invalid
from appliance.runtime.connect.message import Message
from appliance.runtime.http import CORS, Disconnected, Header, HttpError, Request, respond, respond_json

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Unary:
    """One message in, one out."""

    request: type[Message]
    handler: Callable[[Call, Any], Awaitable[Message]]


@dataclass(frozen=True, slots=True)
class ServerStream:
    """One message in, many out."""

    request: type[Message]
    handler: Callable[[Call, Any, Sink], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ClientStream:
    """Many messages in, one out."""

    request: type[Message]
    handler: Callable[[Call, AsyncIterator[Any]], Awaitable[Message]]


Method = Unary | ServerStream | ClientStream


class Sink:
    """The response half of a server stream."""

    __slots__ = ("_codec", "_request", "_watch", "closed")

    def __init__(self, request: Request, codec: Codec) -> None:
        self._request = request
        self._codec = codec
        self.closed = False
        """The client is gone."""
        self._watch: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Send one message; waits while the client is slow, does nothing once it is gone."""
        if not self.closed:
            await self.raw(envelope.frame(self._codec.encode(message)), more=True)

    async def raw(self, data: bytes, *, more: bool) -> None:
        """Send a ready frame."""
        await self._request.send({"type": "http.response.body", "body": data, "more_body": more})

    def on_close(self, callback: Callable[[], None], doubt: Callable[[], None]) -> None:
        """Call ``callback`` (once, in the loop) when the client goes away before the stream ended; ``doubt`` when it
        may have, and a keepalive would tell.
        """
        self._request.on_doubt(doubt)
        self._watch = asyncio.get_running_loop().create_task(self._watch_disconnect(callback))

    async def _watch_disconnect(self, callback: Callable[[], None]) -> None:
        await self._request.disconnected()
        self.closed = True
        callback()

    def release(self) -> None:
        """Stop watching the connection."""
        if self._watch is not None:
            self._watch.cancel()


_STREAM_START: Final[tuple[Header, ...]] = (
    *CORS,
    (b"connect-accept-encoding", b"gzip"),
    (b"cache-control", b"no-store"),
)


class Rpc:
    """All methods of all services, by path."""

    def __init__(self, methods: Mapping[str, Method], max_message: int) -> None:
        self._methods = methods
        self._max_message = max_message

    def __contains__(self, path: str) -> bool:
        return path in self._methods

    async def serve(self, request: Request, call: Call) -> None:
        """Answer one call. The caller has checked the path and the access token."""
        method = self._methods[request.path]
        if request.method != "POST":
            await respond_json(request.send, 405, {"code": 405, "message": f"{request.path} takes POST"}, _ALLOW_POST)
            return
        codec = (UNARY if isinstance(method, Unary) else STREAM).get(request.content_type)
        if codec is None:
            await _unsupported(request, isinstance(method, Unary))
        elif isinstance(method, Unary):
            await self._unary(method, codec, request, call)
        elif isinstance(method, ServerStream):
            await self._server_stream(method, codec, request, call)
        else:
            await self._client_stream(method, codec, request, call)

    async def _unary(self, method: Unary, codec: Codec, request: Request, call: Call) -> None:
        try:
            body = await self._unary_body(request)
            async with asyncio.timeout(call.timeout()):
                answer = codec.encode(await method.handler(call, codec.decode(body, method.request)))
        except Disconnected:
            return
        except Exception as failure:
            error = as_connect_error(failure, request.path)
            await respond_json(request.send, error.code.http, error.body())
            return
        await respond(request.send, 200, answer, content_type=b"application/" + codec.name.encode())

    async def _unary_body(self, request: Request) -> bytes:
        body = await request.body(self._max_message)
        encoding = request.headers.get("content-encoding", "identity")
        if encoding == "gzip":
            return envelope.gunzip(body, self._max_message)
        if encoding != "identity":
            raise ConnectError(Code.UNIMPLEMENTED, f"unknown compression {encoding!r}: supported are identity, gzip")
        return body

    async def _server_stream(self, method: ServerStream, codec: Codec, request: Request, call: Call) -> None:
        sink = Sink(request, codec)
        error: ConnectError | None = None
        try:
            try:
                # Before the answer begins: some clients drop the rest of their request once they see a status line.
                message = await self._single(method.request, codec, request)
            finally:
                await _start_stream(request, codec)
            await method.handler(call, message, sink)
        except Disconnected:
            return
        except Exception as failure:
            error = as_connect_error(failure, request.path)
        finally:
            sink.release()
        if not sink.closed:
            await sink.raw(envelope.end_frame(error), more=False)

    async def _single(self, message: type[Message], codec: Codec, request: Request) -> Message:
        first: Message | None = None
        async for message_ in self._messages(message, codec, request):
            if first is not None:
                raise invalid("a server stream takes exactly one request message, got more")
            first = message_
        if first is None:
            raise invalid("a server stream takes exactly one request message, got none")
        return first

    async def _messages(self, message: type[Message], codec: Codec, request: Request) -> AsyncIterator[Message]:
        encoding = request.headers.get("connect-content-encoding")
        async for data in envelope.frames(request.chunks(), self._max_message, encoding):
            yield codec.decode(data, message)

    async def _client_stream(self, method: ClientStream, codec: Codec, request: Request, call: Call) -> None:
        try:
            async with asyncio.timeout(call.timeout()):
                answer = await method.handler(call, self._messages(method.request, codec, request))
            tail = envelope.frame(codec.encode(answer)) + envelope.end_frame(None)
        except Disconnected:
            return
        except Exception as failure:
            tail = envelope.end_frame(as_connect_error(failure, request.path))
        await _start_stream(request, codec)
        await request.send({"type": "http.response.body", "body": tail})


_ALLOW_POST: Final = ((b"allow", b"POST"),)


async def _start_stream(request: Request, codec: Codec) -> None:
    headers = [*_STREAM_START, (b"content-type", b"application/connect+" + codec.name.encode())]
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})


async def _unsupported(request: Request, unary: bool) -> None:
    """415 with the accepted types, as the protocol asks."""
    accepted = ", ".join(UNARY if unary else STREAM).encode()
    message = f"content type {request.content_type!r} is not supported here; expected {accepted.decode()}"
    await respond_json(request.send, 415, {"code": 415, "message": message}, ((b"accept-post", accepted),))


def as_connect_error(failure: Exception, path: str) -> ConnectError:
    """The answer for whatever a handler raised; what nobody foresaw is logged and becomes ``internal``."""
    if isinstance(failure, ConnectError):
        return failure
    if isinstance(failure, TimeoutError):
        return ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
    if isinstance(failure, HttpError):
        code = Code.RESOURCE_EXHAUSTED if failure.status == 413 else Code.INVALID_ARGUMENT
        return ConnectError(code, failure.message)
    log.error("%s failed", path, exc_info=failure)
    return ConnectError(Code.INTERNAL, f"{type(failure).__name__}: {failure}")
