"""A gateway on loopback, servers that a test scripts byte by byte, and clients that see every byte.

Nothing here sleeps: tests wait for bytes, for ends of connections, or for the events that a scripted server sets.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from appliance.config import GatewaySettings
from appliance.gateway import Gateway, Refusal, Route
from appliance.gateway.routes import Credentials

Handler = Callable[["Peer"], Awaitable[None]]
ID = "iabcdefghij0123456789"


class Peer:
    """One end of a TCP connection; everything is bounded by ten seconds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Write and wait for room."""
        self.writer.write(data)
        async with asyncio.timeout(10):
            await self.writer.drain()

    async def head(self) -> bytes:
        """Up to the first empty line."""
        async with asyncio.timeout(10):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        """Just so many bytes."""
        async with asyncio.timeout(10):
            return await self.reader.readexactly(size)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(10):
            return await self.reader.read()

    async def answer(self, *, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        """One whole response: status, fields (lower case), payload."""
        status, fields = parse(await self.head())
        if method == "HEAD" or status in (204, 304) or status < 200:
            return status, fields, b""
        if fields.get("transfer-encoding") == "chunked":
            return status, fields, await self._chunks()
        if "content-length" in fields:
            return status, fields, await self.exactly(int(fields["content-length"]))
        return status, fields, await self.rest()

    async def _chunks(self) -> bytes:
        payload: list[bytes] = []
        async with asyncio.timeout(10):
            while size := int((await self.reader.readuntil(b"\n")).split(b";")[0], 16):
                payload.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n"
            while await self.reader.readuntil(b"\n") != b"\r\n":
                pass
        return b"".join(payload)

    async def close(self) -> None:
        """Close, whatever state the connection is in."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def parse(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and fields of a response head."""
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    return int(first.split()[1]), {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}


class FakeRoutes:
    """Routes out of a dictionary; wakes are scripted by the test."""

    def __init__(self) -> None:
        self.table: dict[tuple[str, int], Route | Refusal] = {}
        self.wakes = 0
        self.admit = True
        self.shown: list[Credentials] = []
        self.on_wake: Callable[[str], Awaitable[bool]] | None = None
        self.refreshed: list[str] = []
        self.on_refresh: Callable[[], None] | None = None

    def resolve(self, sandbox_id: str, port: int) -> Route | Refusal:
        found = self.table.get((sandbox_id, port))
        return found if found is not None else self.table.get((sandbox_id, 0), Refusal.NOT_FOUND)

    def admits(self, sandbox_id: str, port: int, credentials: Credentials) -> bool:
        self.shown.append(credentials)
        return self.admit

    async def refresh(self, sandbox_id: str) -> None:
        self.refreshed.append(sandbox_id)
        if self.on_refresh is not None:
            self.on_refresh()

    async def wake(self, sandbox_id: str) -> bool:
        self.wakes += 1
        return self.on_wake is not None and await self.on_wake(sandbox_id)


@dataclasses.dataclass
class World:
    """Everything one test needs; closed in reverse order of making."""

    tmp: Path
    stack: contextlib.AsyncExitStack
    routes: FakeRoutes = dataclasses.field(default_factory=FakeRoutes)
    gateway: Gateway = dataclasses.field(init=False)
    dials: list[Peer] = dataclasses.field(default_factory=list)
    tasks: set[asyncio.Task[None]] = dataclasses.field(default_factory=set)

    @property
    def control(self) -> Path:
        return self.tmp / "control.sock"

    async def start(self, **settings: Any) -> Gateway:
        """The gateway, on a free port."""
        settings = {"listen": "127.0.0.1:0", "drain_timeout": 0.2, "connect_backoff": 0.001, **settings}
        self.gateway = Gateway(GatewaySettings(**settings), self.routes, self.control)
        await self.gateway.start()
        self.stack.push_async_callback(self.gateway.drain)
        return self.gateway

    async def serve(
        self,
        handler: Handler,
        *,
        port: int = 8000,
        sandbox_id: str = ID,
        context: ssl.SSLContext | None = None,
        **route: Any,
    ) -> int:
        """A sandbox's server; it is reached as ``port`` of ``sandbox_id``. Returns its real port."""
        server = await asyncio.start_server(self._run(handler), "127.0.0.1", 0, limit=1 << 16, ssl=context)
        self.stack.push_async_callback(self._stop, server)
        real = int(server.sockets[0].getsockname()[1])
        self.route(sandbox_id, port, real, **route)
        return real

    async def serve_control(self, handler: Handler) -> None:
        """The control API."""
        server = await asyncio.start_unix_server(self._run(handler), self.control)
        self.stack.push_async_callback(self._stop, server)

    def route(self, sandbox_id: str, port: int, real: int, **fields: Any) -> None:
        """``port`` of the sandbox is served at 127.0.0.1:``real``."""
        known: dict[str, Any] = {"token": None, "traffic_token": None, "mask_host": None, "tunnel_port": 1}
        self.routes.table[sandbox_id, port] = Route(
            sandbox_id=sandbox_id, host="127.0.0.1", port=real, **{**known, **fields}
        )

    async def connect(self, limit: int = 1 << 16) -> Peer:
        """A client."""
        host, port = self.gateway.addresses[0]
        peer = Peer(*await asyncio.open_connection(host, port, limit=limit))
        self.stack.push_async_callback(peer.close)
        return peer

    async def ask(self, head: str, body: bytes = b"") -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        client = await self.connect()
        await client.send(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        return await client.answer(method=head.split()[0])

    def _run(self, handler: Handler) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = Peer(reader, writer)
            self.dials.append(peer)
            task = asyncio.current_task()
            assert task is not None
            self.tasks.add(task)
            try:
                with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                    await handler(peer)
            finally:
                self.tasks.discard(task)
                await peer.close()

        return run

    async def _stop(self, server: asyncio.AbstractServer) -> None:
        server.close()
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await server.wait_closed()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """The test's own world."""
    async with contextlib.AsyncExitStack() as stack:
        yield World(tmp_path, stack)


async def echo(peer: Peer) -> None:
    """Answers every request with its own head and body, for ever."""
    while True:
        head = await peer.head()
        _, fields = parse(b"HTTP/1.1 200\r\n" + head.partition(b"\r\n")[2])
        if fields.get("transfer-encoding") == "chunked":
            body = await peer._chunks()
        else:
            body = await peer.exactly(int(fields.get("content-length", "0")))
        payload = head + body
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(payload) + payload)


@pytest.fixture
def echo_handler() -> Handler:
    """See ``echo``."""
    return echo


@pytest.fixture
def address() -> str:
    """The header lines that route to port 8000 of the test's sandbox."""
    return f"Host: localhost\nE2b-Sandbox-Id: {ID}\nE2b-Sandbox-Port: 8000"
