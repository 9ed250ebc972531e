"""The way of a sandbox's requests to a host with header rules: TLS ends here, headers are set, a new connection begins.

One connection to the server for each of the sandbox's, so that answers are carried as they come and only requests are
read. Answers stream, bodies stream, and a side that does not read stops the other. The server must show a certificate
for the host that the box's own trust store accepts; where it does not, or does not answer, the sandbox's request is
answered 502 and nothing was sent. A request that is not clearly one to this host is answered 400 (``rewriting.py``).
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401 -- TLS asks for it by name when nobody may read the library any more
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address

from appliance.embedded.filter.heads import MAX_HEAD, Refused
from appliance.embedded.filter.policies import Ruling
from appliance.embedded.filter.rewriting import END, Chunks, Switch, rewrite

log = logging.getLogger(__name__)
DIAL_TIMEOUT = 10.0
"""Seconds to reach one address, and for TLS with the server."""
HANDSHAKE_TIMEOUT = 15.0
"""Seconds for TLS with the sandbox."""
BUFFER = 64 * 1024
"""Bytes carried at once."""
LINGER = 2.0
"""Seconds that a refused client may go on sending."""


@dataclass(frozen=True)
class Server:
    """Where a host is."""

    name: str
    addresses: tuple[IPv4Address, ...]
    """Tried in this order."""
    port: int
    tls: bool


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxies:
    """Makes proxies; they share what the box trusts."""

    def __init__(self, trust: ssl.SSLContext | None = None) -> None:
        """``trust``: for connections to servers; None: the box's trust store, as it is now."""
        self._trust = trust if trust is not None else ssl.create_default_context()
        self._trust.set_alpn_protocols(["http/1.1"])

    def start(self, own: socket.socket, server: Server, ruling: Ruling) -> asyncio.Task[bool]:
        """Serve the sandbox at the other end of ``own``, which is taken over; its end tells whether all was carried."""
        proxy = _Proxy(own, server, ruling, self._trust)
        task = asyncio.create_task(proxy.run())
        task.add_done_callback(proxy.ended)
        return task


class _Proxy:
    def __init__(self, own: socket.socket, server: Server, ruling: Ruling, trust: ssl.SSLContext) -> None:
        self._own, self._server, self._ruling, self._trust = own, server, ruling, trust
        self._near: Streams | None = None
        self._far: Streams | None = None
        self._switch: asyncio.Future[bool] | None = None
        """Set while a request for WebSocket waits for its answer."""
        self._sent = 0
        """Requests sent to the server."""

    async def run(self) -> bool:
        """Until one side is done. False: something was lost, so that the sandbox must not take the end for one."""
        try:
            self._near = await self._accept()
            await self._carry(_Input(self._near[0]), self._near[1])
        except (OSError, EOFError, TimeoutError) as error:  # an ssl.SSLError is an OSError
            log.info("%s: port %d: %s", self._server.name, self._server.port, _plain(error))
            return False
        return True

    def ended(self, task: asyncio.Task[bool]) -> None:
        """Close both sides; called once, however ``run`` ended."""
        lost = task.cancelled() or task.exception() is not None or not task.result()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %r", self._server.name, error)
        if self._near is None:
            self._own.close()
        for streams in (self._near, self._far):
            if streams is not None:
                (streams[1].transport.abort if lost else streams[1].close)()

    async def _accept(self) -> Streams:
        """The sandbox's side, TLS done. Raises ``OSError``."""
        loop, tls = asyncio.get_running_loop(), self._server.tls
        reader = asyncio.StreamReader(limit=BUFFER, loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol,
            self._own,
            ssl=self._ruling.mint.context(self._server.name) if tls else None,
            ssl_handshake_timeout=HANDSHAKE_TIMEOUT if tls else None,
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _carry(self, client: _Input, writer: asyncio.StreamWriter) -> None:
        try:
            head = await client.head()
            if head is None:
                return
            self._far = await self._reach()
        except (Refused, _Unreachable) as error:
            await _refuse(client, writer, error)
            return
        requests = asyncio.create_task(self._requests(client, self._far[1], head))
        answers = asyncio.create_task(self._answers(self._far[0], writer))
        try:
            await asyncio.wait([requests, answers], return_when=asyncio.FIRST_COMPLETED)
            if not answers.done() and (refused := requests.result()) is not None:
                if self._sent:
                    raise OSError(f"a request after others was refused: {refused}")
                await _refuse(client, writer, refused)
                return
            await answers
        finally:
            for task in (requests, answers):
                task.cancel()
            await asyncio.gather(requests, answers, return_exceptions=True)

    async def _reach(self) -> Streams:
        """The server's side. Raises ``_Unreachable``."""
        server, last = self._server, "no address"
        for address in server.addresses:
            try:
                async with asyncio.timeout(DIAL_TIMEOUT):
                    return await asyncio.open_connection(
                        str(address),
                        server.port,
                        limit=BUFFER,
                        ssl=self._trust if server.tls else None,
                        server_hostname=server.name if server.tls else None,
                    )
            except ssl.SSLCertVerificationError as error:
                raise _Unreachable(f"the certificate of {server.name} was not accepted: {_plain(error)}") from None
            except (OSError, TimeoutError) as error:
                last = _plain(error)
        raise _Unreachable(f"{server.name} was not reached: {last}")

    async def _requests(self, client: _Input, far: asyncio.StreamWriter, head: bytes | None) -> Refused | None:
        """Send all of them on, the first of which has this head; what was refused, or None at their end."""
        try:
            while head is not None:
                request = rewrite(head, self._server.name, self._ruling.headers)
                self._switch = asyncio.get_running_loop().create_future() if request.upgrade else None
                far.write(request.head)
                self._sent += 1
                await _body(client, far, request.length)
                await far.drain()
                if self._switch is not None and await self._switch:
                    await _copy(client, far)
                    break
                head = await client.head()
        except Refused as refused:
            return refused
        if far.can_write_eof():
            far.write_eof()
        else:
            far.close()  # TLS ends both directions at once
        return None

    async def _answers(self, far: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reading: Switch | None = None
        while data := await far.read(BUFFER):
            if self._switch is not None and not self._switch.done():
                reading = reading or Switch()
                if (switched := reading.feed(data)) is not None:
                    self._switch.set_result(switched)
                    reading = None
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


class _Unreachable(Exception):
    """The text says why the server cannot be asked."""


class _Input:
    """What the sandbox sends."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._held = bytearray()
        """Read already, and not taken."""

    async def head(self) -> bytes | None:
        """The next request's, with its empty line; None: there is none. Raises ``Refused``."""
        looked = 0
        while (end := self._held.find(END, max(0, looked - len(END)))) < 0:
            looked = len(self._held)
            if looked > MAX_HEAD:
                raise Refused(f"no complete request head in {MAX_HEAD} bytes")
            data = await self._reader.read(BUFFER)
            if not data and self._held:
                raise Refused("an incomplete request")
            if not data:
                return None
            self._held += data
            if not looked:
                self._held = self._held.lstrip(b"\r\n")  # a server ignores empty lines there: RFC 9112 §2.2
        return self.take(end + len(END))

    async def some(self, limit: int) -> bytes:
        """At most so many bytes; none at the end."""
        return self.take(limit) if self._held else await self._reader.read(limit)

    def take(self, size: int) -> bytes:
        """From what was read."""
        data = bytes(self._held[:size])
        del self._held[:size]
        return data

    def give_back(self, data: bytes) -> None:
        """What was taken too much comes first again."""
        self._held[:0] = data


async def _body(client: _Input, far: asyncio.StreamWriter, length: int | None) -> None:
    """Carry a request's body. Raises ``Refused``; ``EOFError`` when it is cut off."""
    left, chunks = length, Chunks()
    while left or (left is None and not chunks.done):
        data = await client.some(min(BUFFER, left) if left else BUFFER)
        if not data:
            raise EOFError("the body was cut off")
        if left is not None:
            left -= len(data)
        elif (used := chunks.feed(data)) < len(data):
            client.give_back(data[used:])
            data = data[:used]
        far.write(data)
        await far.drain()


async def _copy(client: _Input, writer: asyncio.StreamWriter) -> None:
    while data := await client.some(BUFFER):
        writer.write(data)
        await writer.drain()


async def _refuse(client: _Input, writer: asyncio.StreamWriter, error: Exception) -> None:
    """Answer in the server's place, and give the client time to read it before what it still sends is reset."""
    line = "400 Bad Request" if isinstance(error, Refused) else "502 Bad Gateway"
    text = f"{error}\n".encode("ascii", "backslashreplace")
    head = f"HTTP/1.1 {line}\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + text)
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER):
            await writer.drain()
            while await client.some(BUFFER):
                pass


def _plain(error: BaseException) -> str:
    """Its text, which is empty for some."""
    return str(error) or type(error).__name__


Proxy = Callable[[socket.socket, Server, Ruling], asyncio.Task[bool]]
