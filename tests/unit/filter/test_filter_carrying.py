"""Connections through the filter, over real sockets; servers on loopback stand for public ones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from appliance.api.egress import CLOSED, EVERYTHING, Egress
from appliance.dns.lookup import LookupFailed
from appliance.embedded.filter import carrying
from appliance.embedded.filter.carrying import Carrier, Carriers
from appliance.embedded.filter.heads import Requests
from appliance.embedded.filter.policies import Policies
from appliance.embedded.filter.proxying import Proxies

SANDBOX = "127.0.0.1"
ALLOWED = Egress(deny=(EVERYTHING,), domains=("a.test",))
REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
IS_LOCAL = carrying.is_local
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class World:
    """A filter in front of one server."""

    policies: Policies
    carriers: Carriers
    port: int

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As the sandbox whose packets the firewall leads here."""
        return await asyncio.open_connection("127.0.0.1", self.port)


@contextlib.asynccontextmanager
async def world(handler: Handler, *, per_sandbox: int = 100, asked: list[str] | None = None) -> AsyncIterator[World]:
    """A filter for ``SANDBOX`` with the policy ``ALLOWED``."""

    async def find(name: str) -> tuple[IPv4Address, ...]:
        if asked is not None:
            asked.append(name)
        return (IPv4Address("127.0.0.1"),)

    loop = asyncio.get_running_loop()
    policies = Policies()
    policies.set(SANDBOX, ALLOWED)
    carriers = Carriers(policies, find, Proxies().start, per_sandbox=per_sandbox, chosen=lambda _: None)
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    far = server.sockets[0].getsockname()[1]
    near = await loop.create_server(lambda: Carrier(carriers, Requests(), far), "127.0.0.1", 0)
    try:
        yield World(policies, carriers, near.sockets[0].getsockname()[1])
    finally:
        near.close()
        carriers.close()
        server.close()
        while len(carriers):
            await asyncio.sleep(0)


@pytest.fixture
def real_is_local() -> Callable[[IPv4Address], bool]:
    """The function itself, which the other tests replace."""
    return IS_LOCAL


@pytest.fixture(autouse=True)
def loopback_is_public(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules about addresses have tests of their own (policies, and the end-to-end ones)."""
    monkeypatch.setattr(carrying, "reachable", tuple)
    monkeypatch.setattr(carrying, "is_local", lambda _: False)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends everything back; ends when the client has ended."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write(b"<end>")
    writer.close()


async def until_empty(carriers: Carriers) -> None:
    """Wait for the last connection to be gone."""
    async with asyncio.timeout(5):
        while len(carriers):
            await asyncio.sleep(0.005)


async def reset(reader: asyncio.StreamReader) -> bool:
    """Whether the connection ended with an error or without a byte, and not with an answer."""
    try:
        async with asyncio.timeout(5):
            return await reader.read() == b""
    except ConnectionResetError:
        return True


async def test_half_closed_connections_get_their_whole_answer() -> None:
    """The client's end is passed on, the server's last words come back, then nothing is left."""
    async with world(echo) as made:
        reader, writer = await made.connect()
        writer.write(REQUEST[:9])
        await asyncio.sleep(0)
        writer.write(REQUEST[9:])
        writer.write_eof()
        assert await reader.read() == REQUEST + b"<end>"
        writer.close()
        await until_empty(made.carriers)


async def test_the_servers_end_is_passed_on_while_the_client_still_sends() -> None:
    """A server that answers and closes its side still hears the rest."""
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"early")
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with world(early) as made:
        reader, writer = await made.connect()
        writer.write(REQUEST)
        assert await reader.read() == b"early"
        writer.write(REQUEST)
        writer.write_eof()
        assert await heard == REQUEST * 2
        writer.close()
        await until_empty(made.carriers)


async def test_what_the_policy_does_not_admit_is_reset_and_never_looked_up() -> None:
    """Other names, other protocols, a second request for another name, strangers: no server hears of it."""
    asked: list[str] = []
    async with world(echo, asked=asked) as made:
        for data in (REQUEST.replace(b"a.test", b"b.test"), b"\x16\x03\x01", b"SSH-2.0-x\r\n"):
            reader, writer = await made.connect()
            writer.write(data)
            assert await reset(reader)
            writer.close()
        assert asked == []
        reader, writer = await made.connect()
        writer.write(REQUEST)
        assert await reader.readexactly(len(REQUEST)) == REQUEST
        writer.write(REQUEST.replace(b"a.test", b"b.test"))
        assert await reset(reader)
        writer.close()
        made.policies.set(SANDBOX, None)
        reader, writer = await made.connect()
        assert await reset(reader)
        writer.close()
        await until_empty(made.carriers)


async def test_a_changed_policy_cuts_what_it_no_longer_allows() -> None:
    """Enforcing an unchanged policy does nothing; one without the name resets, whatever the state of the connection."""
    async with world(echo) as made:
        reader, writer = await made.connect()
        writer.write(REQUEST)
        await reader.readexactly(len(REQUEST))
        made.carriers.enforce(SANDBOX)
        writer.write(REQUEST)
        await reader.readexactly(len(REQUEST))
        made.policies.set(SANDBOX, CLOSED)
        made.carriers.enforce(SANDBOX)
        assert await reset(reader)
        writer.close()
        await until_empty(made.carriers)


async def test_a_name_that_leads_nowhere_resets() -> None:
    """No usable address, or nobody who answers there: the client sees an error at once."""

    async def nowhere(_: str) -> tuple[IPv4Address, ...]:
        raise LookupFailed("nobody knows")

    async with world(echo) as made:
        for find in (nowhere, lambda _: asyncio.sleep(0, ())):
            made.carriers.find = find
            reader, writer = await made.connect()
            writer.write(REQUEST)
            assert await reset(reader)
            writer.close()
        await until_empty(made.carriers)


async def test_connections_of_one_sandbox_are_bounded() -> None:
    """One too many is reset, the others go on; when one has gone there is room again."""
    async with world(echo, per_sandbox=2) as made:
        kept = [await made.connect() for _ in range(2)]
        for reader, writer in kept:
            writer.write(REQUEST)
            await reader.readexactly(len(REQUEST))
        reader, writer = await made.connect()
        assert await reset(reader)
        writer.close()
        kept[0][1].close()
        async with asyncio.timeout(5):
            while len(made.carriers) > 1:
                await asyncio.sleep(0.005)
        reader, writer = await made.connect()
        writer.write(REQUEST)
        assert await reader.readexactly(len(REQUEST)) == REQUEST
        for _, one in (*kept, (reader, writer)):
            one.close()
        await until_empty(made.carriers)


async def test_silence_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and names nobody is reset after the head's time-out."""
    monkeypatch.setattr(carrying, "HEAD_TIMEOUT", 0.05)
    async with world(echo) as made:
        reader, writer = await made.connect()
        writer.write(REQUEST[:9])
        assert await reset(reader)
        writer.close()
        await until_empty(made.carriers)


async def test_a_reader_that_stops_stops_the_sender() -> None:
    """Back-pressure goes through in both directions, and every byte arrives when the reader goes on."""
    sent = 0
    size = 64 * 1024 * 1024

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while sent < size:
                writer.write(bytes(65536))
                sent += 65536
                await writer.drain()
        writer.close()

    async with world(flood) as made:
        reader, writer = await made.connect()
        writer.write(REQUEST)
        await reader.readexactly(1)
        before = -1
        while sent != before:  # until it stands still
            before = sent
            await asyncio.sleep(0.1)
        assert sent < size
        rest = 1
        while data := await reader.read(1 << 20):
            rest += len(data)
        assert rest == size
        writer.close()
        await until_empty(made.carriers)


def test_the_machines_own_addresses_are_told_apart(real_is_local: Callable[[IPv4Address], bool]) -> None:
    """Loopback is this machine's; a documentation address is not, whether there is a route to it or not."""
    assert real_is_local(IPv4Address("127.0.0.1"))
    assert not real_is_local(IPv4Address("198.51.100.77"))
