"""Asking name servers, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from appliance.dns import lookup, wire
from appliance.dns.lookup import Found, Lookup, LookupFailed, NameServers

ONE = IPv4Address("198.51.100.1")


class Server(asyncio.DatagramProtocol):
    """A name server that answers with ``answer(query)``, or not at all."""

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        self.answer, self.asked = answer, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.asked += 1
        found = self.answer(data)
        if found is not None:
            self.transport.sendto(found, addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def serving(answer: Callable[[bytes], bytes | None]) -> AsyncIterator[tuple[Server, Lookup]]:
    """A name server and somebody who asks it, impatiently."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: Server(answer), local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    asking = Lookup(lambda: ["127.0.0.1"], port=port, timeout=0.2)
    try:
        yield server, asking
    finally:
        await asking.close()
        transport.close()


def one_address(query: bytes) -> bytes:
    """An answer with one address that holds for a minute."""
    _, _, end = wire.question(query)
    return wire.reply(query, end, wire.NOERROR, [wire.address_record(ONE, 60)])


async def test_an_answer_is_kept_and_asked_for_once() -> None:
    """Ten that ask at the same time cost one question, and so does everybody while it holds."""
    async with serving(one_address) as (server, asking):
        found = await asyncio.gather(*(asking.find("a.test") for _ in range(10)))
        assert {one.addresses for one in found} == {(ONE,)}
        assert 0 < (await asking.find("a.test")).ttl <= 60
        assert server.asked == 1


async def test_a_name_that_does_not_exist_is_told_as_such() -> None:
    """NXDOMAIN is an answer, and kept for a short while."""
    async with serving(lambda q: wire.reply(q, wire.question(q)[2], wire.NXDOMAIN, [])) as (server, asking):
        assert await asking.find("a.test") == Found((), lookup.TTL_NEGATIVE, exists=False)
        await asking.find("a.test")
        assert server.asked == 1


async def test_silence_and_lies_end_in_an_error() -> None:
    """No answer, an answer to another question, a failure: LookupFailed after a bounded number of questions."""
    for answer in (
        lambda _: None,
        lambda _: one_address(wire.query(1, "b.test")),
        lambda q: wire.reply(q, wire.question(q)[2], wire.SERVFAIL, []),
    ):
        async with serving(answer) as (server, asking):
            with pytest.raises(LookupFailed, match=r"a\.test: no answer from 127\.0\.0\.1"):
                await asking.find("a.test")
            assert server.asked == lookup.ROUNDS


async def test_a_long_answer_is_fetched_by_tcp() -> None:
    """A truncated answer is asked for again over a stream on the same port."""

    async def by_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (size,) = struct.unpack("!H", await reader.readexactly(2))
        found = one_address(await reader.readexactly(size))
        writer.write(struct.pack("!H", len(found)) + found)
        writer.close()

    def cut(query: bytes) -> bytes:
        head = bytearray(wire.reply(query, wire.question(query)[2], wire.NOERROR, []))
        head[2] |= 0x02
        return bytes(head)

    async with serving(cut) as (server, asking):
        port = server.transport.get_extra_info("sockname")[1]
        async with await asyncio.start_server(by_stream, "127.0.0.1", port):
            assert (await asking.find("a.test")).addresses == (ONE,)


async def test_the_ones_who_leave_do_not_take_the_answer_with_them() -> None:
    """A cancelled waiter leaves the question running for the others."""
    async with serving(one_address) as (_, asking):
        first, second = (asyncio.create_task(asking.find("a.test")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).addresses == (ONE,)


def test_name_servers_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    """Three at most, comments ignored; a changed file is noticed; one that has gone leaves those of before."""
    path = tmp_path / "resolv.conf"
    servers = NameServers(path)
    assert servers() == ()
    path.write_text("# nameserver 9.9.9.9\nsearch a\nnameserver 1.1.1.1\nnameserver 1.1.1.2 x\n")
    assert servers() == ("1.1.1.1", "1.1.1.2")
    path.write_text("".join(f"nameserver 10.0.0.{n}\n" for n in range(5)))
    os.utime(path, ns=(1, 1))
    assert servers() == ("10.0.0.0", "10.0.0.1", "10.0.0.2")
    path.unlink()
    assert servers() == ("10.0.0.0", "10.0.0.1", "10.0.0.2")
