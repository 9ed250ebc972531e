"""A raw HTTP/1.1 keep-alive client on asyncio: the cheapest client there is, so that rows show the server.

It knows just enough: a head, then a body by length or in chunks. Chunked bodies are unwrapped piece by piece, because
the rows about streams ask when the first event came, not when the answer was whole.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
from collections.abc import AsyncIterator

BUFFER = 1024 * 1024
_CHUNK = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n")


class Connection(asyncio.BufferedProtocol):
    """One connection; requests one after the other."""

    def __init__(self) -> None:
        self._room = bytearray(BUFFER)
        self._view = memoryview(self._room)
        self._data = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._skip = 0
        self._closed = False
        self._writable: asyncio.Future[None] | None = None
        self.transport: asyncio.Transport

    # The protocol -------------------------------------------------------------------------------------------------
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, count: int) -> None:
        if self._skip:  # the body of a big download: counted, not kept
            taken = min(count, self._skip)
            self._skip -= taken
            self._data += self._view[taken:count]
            if self._skip:
                return
        else:
            self._data += self._view[:count]
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        self._closed = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error or EOFError("the server closed the connection"))

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # Requests -----------------------------------------------------------------------------------------------------
    async def _more(self) -> None:
        if self._closed:
            raise EOFError("the server closed the connection")
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    async def send(self, request: bytes | tuple[bytes, bytes, bytes]) -> bytes:
        """Send a whole request (large bodies as head, body, tail) and return the head of the answer."""
        if isinstance(request, bytes):
            self.transport.write(request)
        else:
            head, body, tail = request
            self.transport.write(head)
            view = memoryview(body)
            for at in range(0, len(body), BUFFER):
                self.transport.write(view[at : at + BUFFER])
                if self._writable is not None:
                    await self._writable
            if tail:
                self.transport.write(tail)
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            await self._more()
        head = bytes(self._data[:end]).lower()
        del self._data[: end + 4]
        if not head.startswith(b"http/1.1 20"):
            await asyncio.sleep(0.05)
            raise RuntimeError(f"{head.decode()}\n{bytes(self._data[:500])!r}")
        return head

    async def fetch(self, request: bytes | tuple[bytes, bytes, bytes]) -> int:
        """Send a request and read the whole answer; returns the size of its body."""
        head = await self.send(request)
        if b"transfer-encoding: chunked" in head:
            return sum([len(piece) async for piece in self.pieces()])
        length = re.search(rb"content-length: (\d+)", head)
        size = int(length[1]) if length else 0
        have = min(size, len(self._data))
        del self._data[:have]
        self._skip = size - have
        while self._skip:
            await self._more()
        return size

    async def pieces(self) -> AsyncIterator[bytes]:
        """The chunks of a chunked body."""
        while True:
            while not (found := _CHUNK.match(self._data)):
                await self._more()
            size, start = int(found[1], 16), found.end()
            while len(self._data) < start + size + 2:
                await self._more()
            piece = bytes(self._data[start : start + size])
            del self._data[: start + size + 2]
            if not size:
                return
            yield piece

    def close(self) -> None:
        """Drop the connection."""
        self.transport.abort()


async def connect(host: str, port: int) -> Connection:
    """A new connection."""
    _, protocol = await asyncio.get_running_loop().create_connection(Connection, host, port)
    return protocol


class Target:
    """Where requests go and what every one of them carries (a sandbox behind a gateway needs headers)."""

    def __init__(self, host: str, port: int, headers: dict[str, str] | None = None) -> None:
        self.host, self.port = host, port
        self._head = "".join(f"{name}: {value}\r\n" for name, value in {"host": "x", **(headers or {})}.items())

    async def connect(self) -> Connection:
        """A connection to it."""
        return await connect(self.host, self.port)

    def request(
        self, method: str, path: str, body: bytes = b"", kind: str = "application/json", extra: str = "", room: int = 0
    ) -> bytes:
        """A request; ``room``: bytes of body that follow separately."""
        lines = f"{method} {path} HTTP/1.1\r\n{self._head}{extra}content-type: {kind}\r\n"
        return (lines + f"content-length: {len(body) + room}\r\n\r\n").encode() + body

    def rpc(self, method: str, message: object) -> bytes:
        """A unary call."""
        return self.request("POST", f"/{method}", json.dumps(message).encode())

    def stream(self, method: str, message: object) -> bytes:
        """A server stream."""
        data = json.dumps(message).encode()
        return self.request(
            "POST", f"/{method}", b"\0" + len(data).to_bytes(4, "big") + data, "application/connect+json"
        )

    def start(self, *argv: str, **more: object) -> bytes:
        """``Start`` without stdin."""
        process = {"cmd": argv[0], "args": argv[1:]}
        return self.stream("process.Process/Start", {"process": process, "stdin": False, **more})


async def frames(connection: Connection) -> AsyncIterator[tuple[int, bytes]]:
    """Connect's frames of a stream: flags and message."""
    buffer = b""
    async for piece in connection.pieces():
        buffer += piece
        while len(buffer) >= 5 and len(buffer) >= (end := 5 + int.from_bytes(buffer[1:5], "big")):
            yield buffer[0], buffer[5:end]
            buffer = buffer[end:]


async def start_of(connection: Connection) -> int:
    """The pid in a stream's start event."""
    async for _, data in frames(connection):
        return int(json.loads(data)["event"]["start"]["pid"])
    raise RuntimeError("the stream ended without a start event")


def b64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()
