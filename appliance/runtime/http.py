"""The thin layer between ASGI and the handlers: a request with bounded bodies, and one way to answer.

There is no framework here on purpose: an ASGI call costs about 40 us on this server, a framework would triple it.
Every answer allows any origin, because browsers load previews and the SDK from anywhere; the access token is what
protects a sandbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from appliance.runtime.text import encode_json

if TYPE_CHECKING:
    from appliance.runtime.intake import Intake

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

SENDFILE: Final = "appliance.sendfile"
"""ASGI extension of our listener: ``await sendfile(descriptor, offset, count) -> bytes sent``."""

INTAKE: Final = "appliance.intake"
"""ASGI extension of our listener: ``intake() -> Intake | None``, the rest of the body to be read without the loop."""

DOUBT: Final = "appliance.doubt"
"""ASGI extension of our listener: ``doubt(callback)``; called when the client sends no more, and so may be gone."""

CORS: Final[tuple[Header, ...]] = ((b"access-control-allow-origin", b"*"),)
PREFLIGHT: Final[tuple[Header, ...]] = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    (b"access-control-allow-headers", b"*, Authorization"),
    (b"access-control-max-age", b"7200"),
)


class HttpError(Exception):
    """A REST answer other than success: JSON with the status as ``code``, and ``message``."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Disconnected(Exception):
    """The client went away while its body was read."""


class Request:
    """One HTTP request."""

    __slots__ = ("_query", "_receive", "ended", "headers", "method", "path", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self._receive = receive
        self.send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[str, str] = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        self._query: dict[str, str] | None = None
        self.ended = False
        """The whole body has been read."""

    @property
    def query(self) -> dict[str, str]:
        """Query parameters; of a repeated one the first counts. Bytes that are no UTF-8 are kept (``text.py``)."""
        if self._query is None:
            text = self.scope["query_string"].decode("latin-1")
            pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
            self._query = {}
            for key, value in pairs:
                self._query.setdefault(key, value)
        return self._query

    @property
    def content_type(self) -> str:
        """The media type without parameters, lower case; empty when absent."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives; the server stops reading from the socket while the consumer works. Raises
        ``Disconnected``.
        """
        while not self.ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            self.ended = not message.get("more_body", False)
            if body := message.get("body", b""):
                yield body

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises ``HttpError`` 413 above ``limit`` bytes, ``Disconnected``."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        self.ended = not message.get("more_body", False)
        data: bytes = message.get("body", b"")
        if not self.ended:
            buffer = bytearray(data)
            async for chunk in self.chunks():
                buffer += chunk
                _check_size(len(buffer), limit)
            data = bytes(buffer)
        _check_size(len(data), limit)
        return data

    async def sendfile(self, descriptor: int, offset: int, count: int) -> int:
        """Send a part of a file as the next part of a body of known length; returns the bytes sent, fewer only where
        the file ends. Raises ``Disconnected``, and ``asyncio.SendfileNotAvailableError`` (nothing is sent) where
        server or file system cannot.
        """
        send = self.scope.get("extensions", {}).get(SENDFILE)
        if send is None:
            raise asyncio.SendfileNotAvailableError
        try:
            sent: int = await send(descriptor, offset, count)
        except ConnectionError:
            raise Disconnected from None
        return sent

    def intake(self) -> Intake | None:
        """The rest of the body, when it is plain, of known length, large, and all before it has been taken."""
        take = self.scope.get("extensions", {}).get(INTAKE)
        taken: Intake | None = take() if take is not None else None
        return taken

    def on_doubt(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` when the client has closed its sending side: an answer that is silent should say something,
        for only that shows whether anybody still reads.
        """
        register = self.scope.get("extensions", {}).get(DOUBT)
        if register is not None:
            register(callback)

    async def disconnected(self) -> None:
        """Return when the client goes away (or the answer is complete). Body bytes that still arrive are dropped."""
        while (await self._receive())["type"] != "http.disconnect":
            pass


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise HttpError(413, f"the request body is larger than {limit} bytes")


async def respond(
    send: Send, status: int, body: bytes = b"", *, content_type: bytes | None = None, headers: Iterable[Header] = ()
) -> None:
    """A complete answer with its length."""
    lines = [*CORS, *headers]
    if content_type is not None:
        lines.append((b"content-type", content_type))
    if status not in (204, 304):
        lines.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})


async def respond_json(send: Send, status: int, value: object, headers: Iterable[Header] = ()) -> None:
    """A complete JSON answer."""
    await respond(send, status, encode_json(value), content_type=b"application/json", headers=headers)


async def respond_error(send: Send, error: HttpError) -> None:
    """The JSON body of an error."""
    await respond_json(send, error.status, {"code": error.status, "message": error.message})
