"""The resolver of one domain, asked over real sockets."""

import asyncio
import socket
import struct

import pytest

from appliance.box import resolver
from appliance.box.resolver import FormatError, Resolver, question


def query(name: str, kind: int = 1) -> bytes:
    """A recursive query with one question."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


async def ask(port: int, packet: bytes) -> bytes:
    """One question, one answer."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.connect(("127.0.0.1", port))
        await loop.sock_sendall(client, packet)
        return await asyncio.wait_for(loop.sock_recv(client, 512), 5)


async def started(upstreams: list[str]) -> tuple[Resolver, int]:
    """A resolver for sbx.test on a free port."""
    loop = asyncio.get_running_loop()
    transport, one = await loop.create_datagram_endpoint(
        lambda: Resolver("sbx.test", "127.0.0.1", upstreams), local_addr=("127.0.0.1", 0)
    )
    return one, transport.get_extra_info("sockname")[1]


@pytest.mark.parametrize("name", ["sbx.test", "api.sbx.test", "49999-iabc.SBX.test"])
async def test_every_name_of_the_domain_is_the_box(name: str) -> None:
    """The domain itself and anything below it, in any case, answers the address."""
    one, port = await started([])
    answer = await ask(port, query(name))
    assert answer[3] & 0x0F == resolver.NOERROR
    assert answer.endswith(bytes([127, 0, 0, 1]))
    await one.close()


async def test_other_types_have_no_records_but_no_error() -> None:
    """AAAA of an IPv4 box is an empty success, so that clients go on with the A record."""
    one, port = await started([])
    answer = await ask(port, query("api.sbx.test", resolver.AAAA))
    assert answer[3] & 0x0F == resolver.NOERROR
    assert struct.unpack_from("!H", answer, 6)[0] == 0
    await one.close()


async def test_foreign_names_fail_without_upstreams() -> None:
    """Nobody to ask: SERVFAIL, not silence; a name that only ends alike is foreign."""
    one, port = await started([])
    assert (await ask(port, query("notsbx.test")))[3] & 0x0F == resolver.SERVFAIL
    await one.close()


@pytest.mark.parametrize("packet", [b"", b"1234", query("a.b")[:-3], query("a.b")[:12] + b"\x3fabc", b"\0" * 12])
def test_malformed_packets_are_refused(packet: bytes) -> None:
    """Cut or lying packets raise and never index past their end."""
    with pytest.raises(FormatError):
        question(packet)


async def test_a_taken_address_names_the_flag() -> None:
    """The error says which flag to change."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(RuntimeError, match=f"--dns-listen {listen} cannot be used: Address already in use"):
            async with resolver.serving(listen, "sbx.test", "127.0.0.1"):
                pass
