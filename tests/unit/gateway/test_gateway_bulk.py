"""Large bodies, downloads moved by the kernel: every byte, in both directions, and every way to end too early."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random

import pytest

from appliance.gateway.bulk import Relay

ID = "iabcdefghij0123456789"
SIZE = 5_000_003
BODY = random.Random(3).randbytes(SIZE)


def request(first: str, address: str, *more: str) -> bytes:
    """A request head."""
    return "\r\n".join([first, *address.split("\n"), *more, "", ""]).encode()


def open_descriptors() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))


async def until(condition) -> None:
    """Let the loop run until something is true."""
    while not condition():
        await asyncio.sleep(0)


@pytest.fixture
def relays(monkeypatch):
    """Counts the relays made, so that a test knows that it has met one."""
    made = []
    original = Relay.__init__

    def counted(self, *args):
        made.append(self)
        original(self, *args)

    monkeypatch.setattr(Relay, "__init__", counted)
    return made


async def test_large_bodies_arrive_whole_in_both_directions(world, address, relays):
    """Upload and download of the same five megabytes, then small requests on the same two connections."""

    async def handler(peer):
        while True:
            head = await peer.head()
            size = SIZE if head.startswith(b"PUT /big") else 0
            got = await peer.exactly(size)
            answer = hashlib.sha256(got).digest() if size else (BODY if b"/big" in head else b"small")
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    for _ in range(2):
        await client.send(request("PUT /big HTTP/1.1", address, f"Content-Length: {SIZE}") + BODY)
        assert (await client.answer())[2] == hashlib.sha256(BODY).digest()
        await client.send(request("GET /big HTTP/1.1", address) + request("GET /small HTTP/1.1", address))
        assert (await client.answer())[2] == BODY
        assert (await client.answer())[2] == b"small"
    assert len(relays) >= 2
    assert len(world.dials) == 1


async def test_a_truncated_large_body_is_seen(world, address, relays):
    """The server dies in the middle of a relay: the client's connection ends short."""

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
        await peer.send(BODY[:3_000_000])

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    await client.head()
    assert await client.rest() == BODY[:3_000_000]
    assert relays
    assert gateway.stats.truncated == 1


@pytest.mark.parametrize("upload", [False, True])
async def test_nothing_is_left_of_a_relay_whose_client_vanishes(world, address, relays, upload):
    """Descriptors, exchanges and the upstream are gone soon after the client is."""
    started, gone = asyncio.Event(), asyncio.Event()

    async def handler(peer):
        await peer.head()
        started.set()
        try:
            if upload:
                await peer.rest()
            else:
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SIZE * 100))
                while True:
                    await peer.send(BODY)
        finally:
            gone.set()

    await world.serve(handler)
    gateway = await world.start()
    before = open_descriptors()
    client = await world.connect()
    if upload:
        await client.send(request("PUT / HTTP/1.1", address, f"Content-Length: {SIZE * 100}") + BODY)
    else:
        await client.send(request("GET / HTTP/1.1", address))
        await client.exactly(2_000_000)
    await started.wait()
    await until(lambda: relays or upload)
    client.writer.transport.abort()
    await client.close()
    async with asyncio.timeout(5):
        await gone.wait()
        await until(lambda: not gateway._hub.clients and not gateway._hub.exchanges)
        await until(lambda: open_descriptors() <= before)


async def test_reset_cuts_a_relay(world, address, relays):
    """A killed sandbox's download ends by RST while the kernel moves it, and no descriptor stays."""

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (SIZE * 100))
        while True:
            await peer.send(BODY)

    await world.serve(handler)
    gateway = await world.start()
    before = open_descriptors()
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    await client.exactly(2_000_000)
    await until(lambda: relays)
    assert gateway.reset(ID) == 1
    with pytest.raises(ConnectionResetError):
        while await client.reader.read(1 << 20):
            pass
    await client.close()
    async with asyncio.timeout(5):
        await until(lambda: open_descriptors() <= before)


async def test_an_early_answer_ends_a_large_upload(world, address):
    """A server that refuses a large upload half way: the answer arrives, the rest is thrown away."""

    async def handler(peer):
        await peer.head()
        await peer.exactly(2_000_000)
        await peer.send(b"HTTP/1.1 507 Full\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfull")

    await world.serve(handler)
    await world.start(linger_timeout=1.0)
    client = await world.connect()
    client.writer.write(request("PUT / HTTP/1.1", address, f"Content-Length: {SIZE}") + BODY)
    status, _, body = await client.answer()
    assert (status, body) == (507, b"full")


async def test_without_descriptors_bodies_go_the_ordinary_way(world, address, monkeypatch):
    """A relay that cannot be made is no failure."""

    def refuse(descriptor):
        raise OSError(24, "Too many open files")

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE + BODY)
        await peer.rest()

    await world.serve(handler)
    await world.start()
    monkeypatch.setattr(os, "dup", refuse)
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    assert (await client.answer())[2] == BODY
