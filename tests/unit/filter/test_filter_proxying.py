"""Hosts with header rules through the filter, over real sockets and TLS; servers on loopback stand for public ones."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from appliance.api.egress import EVERYTHING, Egress
from appliance.api.header_rules import HeaderRules, Rule, Transform
from appliance.claims.authority import new_authority
from appliance.embedded.filter import carrying
from appliance.embedded.filter.carrying import Carrier, Carriers
from appliance.embedded.filter.heads import ClientHello, Requests
from appliance.embedded.filter.minting import Mint
from appliance.embedded.filter.policies import Policies
from appliance.embedded.filter.proxying import Proxies
from appliance.embedded.filter.sides import reset

SANDBOX, HERE = "127.0.0.1", IPv4Address("127.0.0.1")
OWN, OUTSIDE = new_authority(), new_authority()
OPEN = Egress(rules="r")
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nHost: a.test\r\nX-Key: mine\r\n\r\n"


def rules(**headers: dict[str, str]) -> HeaderRules:
    """Rules of hosts whose dots are written as underscores."""
    found = {name.replace("_", "."): [Rule(Transform(own))] for name, own in headers.items()}
    return HeaderRules(found, OWN)


def trusting(certificate: str) -> ssl.SSLContext:
    """A client's context that trusts this authority and no other."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=certificate)
    return context


@dataclass
class World:
    """A filter in front of one server, which remembers the heads it got."""

    policies: Policies
    carriers: Carriers
    ports: dict[bool, int]
    heads: list[str] = field(default_factory=list)

    def set(self, egress: Egress, own: HeaderRules | None) -> None:
        """As the agent does."""
        self.policies.set(SANDBOX, egress, own)
        self.carriers.enforce(SANDBOX)

    async def connect(self, *, tls: bool, name: str = "a.test") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """As the sandbox whose packets the firewall leads here."""
        if not tls:
            return await asyncio.open_connection("127.0.0.1", self.ports[False])
        context = trusting(OWN.certificate)
        context.set_alpn_protocols(["h2", "http/1.1"])
        return await asyncio.open_connection("127.0.0.1", self.ports[True], ssl=context, server_hostname=name)


@contextlib.asynccontextmanager
async def world(
    handler: Handler | None = None, *, certificate: str = "a.test", chosen: IPv4Address | None = HERE
) -> AsyncIterator[World]:
    """``handler`` serves instead of echoing heads; ``certificate`` is the name the server proves over TLS."""
    heads: list[str] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                heads.append(head)
                writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(head)}\r\n\r\n{head}".encode())
                await writer.drain()
        writer.close()

    serve, open_ones = handler or echo, []

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        await serve(reader, writer)

    async def find(name: str) -> tuple[IPv4Address, ...]:
        return (HERE,)

    loop, policies = asyncio.get_running_loop(), Policies()
    carriers = Carriers(policies, find, Proxies(trusting(OUTSIDE.certificate)).start, chosen=lambda _: chosen)
    servers, ports = [], {}
    for tls in (False, True):
        context = Mint(OUTSIDE).context(certificate) if tls else None
        far = await asyncio.start_server(served, "127.0.0.1", 0, ssl=context)
        port = far.sockets[0].getsockname()[1]
        near = await loop.create_server(
            lambda tls=tls, port=port: Carrier(carriers, ClientHello() if tls else Requests(), port), "127.0.0.1", 0
        )
        servers += [near, far]
        ports[tls] = near.sockets[0].getsockname()[1]
    made = World(policies, carriers, ports, heads)
    made.set(OPEN, rules(a_test={"X-Key": "secret"}))
    try:
        yield made
    finally:
        for server in servers:
            server.close()
        carriers.close()
        for writer in open_ones:
            writer.transport.abort()
        for _ in range(5):  # each layer of a transport takes a turn of the loop to end
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback counts as any other network."""
    monkeypatch.setattr(carrying, "is_local", lambda address: False)
    monkeypatch.setattr("appliance.embedded.filter.policies._CLOSED", ())


async def answer(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Status line and body of an answer with a length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = next(int(one.split(":")[1]) for one in head.split("\r\n") if one.lower().startswith("content-length"))
    return head.split("\r\n")[0], (await reader.readexactly(size)).decode()


@pytest.mark.parametrize("tls", [False, True])
async def test_requests_get_the_header_one_after_the_other(tls: bool) -> None:
    """On one connection, by HTTP and HTTPS, in place of what the client sent; HTTP/1.1 is agreed on."""
    async with world() as here:
        reader, writer = await here.connect(tls=tls)
        for _ in range(3):
            writer.write(GET)
            status, body = await answer(reader)
            assert status == "HTTP/1.1 200 OK" and "X-Key: secret" in body and "mine" not in body
        if tls:
            assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        writer.write(GET + GET)
        assert (await answer(reader), await answer(reader)) == ((status, body), (status, body))
        writer.close()


async def test_a_server_with_another_certificate_gets_nothing() -> None:
    """The header is sent to nobody who cannot prove the name: 502, which says why."""
    async with world(certificate="b.test") as here:
        reader, writer = await here.connect(tls=True)
        writer.write(GET)
        status, body = await answer(reader)
        assert status == "HTTP/1.1 502 Bad Gateway" and "the certificate of a.test was not accepted" in body
        assert here.heads == [] and "secret" not in body
        writer.close()


async def test_requests_for_others_get_nothing() -> None:
    """On a connection to the host, a request that names another is refused: first 400, later a reset."""
    async with world() as here:
        reader, writer = await here.connect(tls=True)
        writer.write(GET.replace(b"a.test", b"b.test"))
        assert (await answer(reader))[0] == "HTTP/1.1 400 Bad Request"
        writer.close()
        reader, writer = await here.connect(tls=True)
        writer.write(GET)
        await answer(reader)
        writer.write(GET.replace(b"a.test", b"b.test"))
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        assert len(here.heads) == 1
        writer.close()


async def test_bodies_pass_whole_and_the_next_request_follows() -> None:
    """By length and in chunks, of any size, with Expect; the head after them gets the header too."""
    got: list[bytes] = []
    large, post = b"x" * 1_000_000, b"POST / HTTP/1.1\r\nHost: a.test\r\n"
    chunked = b"f4240\r\n" + large + b"\r\n0\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                assert b"X-Key: secret" in head
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" if b"Expect" in head else b"")
                size = int(head.split(b"Length: ")[1].split(b"\r\n")[0]) if b"Length" in head else 0
                got.append(await reader.readexactly(size) if size else await reader.readexactly(len(chunked)))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    async with world(serve) as here:
        reader, writer = await here.connect(tls=True)
        writer.write(post + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(large))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        chunked = b"f4240\r\n" + large + b"\r\n0\r\n\r\n"
        writer.write(large + post + b"Transfer-Encoding: chunked\r\n\r\n" + chunked)
        writer.write(post + b"Content-Length: 2\r\n\r\nhi")
        for _ in range(3):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 204 No Content\r\n\r\n"
        assert got == [large, chunked, b"hi"]
        writer.close()


async def test_after_a_switch_to_websocket_nothing_is_read() -> None:
    """The request has the header; then bytes pass both ways as they are, with the ends of both."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n" if b"X-Key: secret" in head else b"HTTP/1.1 500 \r\n\r\n"
        )
        while data := await reader.read(100):
            writer.write(data.upper())
        writer.close()

    async with world(serve) as here:
        reader, writer = await here.connect(tls=False)
        writer.write(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        for frame in (b"\x81\x00 get /", b"\r\n\r\n"):
            writer.write(frame)
            assert await reader.readexactly(len(frame)) == frame.upper()
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()


async def test_what_no_rule_is_about_passes_untouched() -> None:
    """Other names go to the address the sandbox chose, by its own TLS; so does what is no TLS and no HTTP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"you said " + await reader.read(100))
        writer.close()

    async with world(serve, certificate="b.test") as here:
        for port, said in ((here.ports[True], b"SSH-2.0-x\r\n"), (here.ports[False], b"\x00binary")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            if port == here.ports[False]:
                assert await reader.read() == b"you said " + said
            writer.close()
        outside = trusting(OUTSIDE.certificate)
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", here.ports[True], ssl=outside, server_hostname="b.test"
        )
        writer.write(b"hello")
        assert await reader.read() == b"you said hello"
        writer.close()


async def test_a_client_that_listens_first_hears_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent, so nothing can be asked for: after a while the server the sandbox chose is joined."""
    monkeypatch.setattr(carrying, "SILENCE", 0.01)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await reader.read()
        writer.close()

    async with world(serve) as here:
        reader, writer = await here.connect(tls=False)
        assert await reader.readline() == b"220 ready\r\n"
        writer.close()


@pytest.mark.parametrize("egress", [Egress(deny=("127.0.0.0/8",), rules="r"), Egress(deny=(EVERYTHING,), rules="r")])
async def test_a_rule_opens_nothing(egress: Egress) -> None:
    """A host whose address is denied is reset, with its rule and without."""
    async with world() as here:
        here.set(egress, rules(a_test={"X-Key": "secret"}))
        for name in (b"a.test", b"b.test"):
            reader, writer = await here.connect(tls=False)
            writer.write(GET.replace(b"a.test", name))
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
        assert here.heads == []


@pytest.mark.parametrize(
    "egress", [Egress((f"{HERE}/32",), (EVERYTHING,), rules="r"), Egress((), (EVERYTHING,), ("a.test",), rules="r")]
)
async def test_a_rule_of_an_allowed_host_holds(egress: Egress) -> None:
    """Allowed by its address or by its name, while everything else is denied."""
    async with world(chosen=None) as here:
        here.set(egress, rules(a_test={"X-Key": "secret"}))
        reader, writer = await here.connect(tls=True)
        writer.write(GET)
        assert "X-Key: secret" in (await answer(reader))[1]
        writer.close()


async def test_changed_rules_reset_connections_that_know_the_old_ones() -> None:
    """Told the same again, a connection goes on; told others, or none, it ends, and so does one that had no rule."""
    async with world() as here:
        reader, writer = await here.connect(tls=True)
        writer.write(GET)
        await answer(reader)
        here.set(OPEN, rules(a_test={"X-Key": "secret"}))
        writer.write(GET)
        assert (await answer(reader))[0] == "HTTP/1.1 200 OK"
        here.set(OPEN, rules(a_test={"X-Key": "new"}))
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        writer.close()
        reader, writer = await here.connect(tls=False)
        writer.write(GET.replace(b"a.test", b"b.test"))
        assert "X-Key: mine" in (await answer(reader))[1]
        here.set(OPEN, rules(b_test={"X-Key": "other"}))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_lost_server_is_no_end_of_an_answer() -> None:
    """An answer without length that is cut off ends in a reset, not as if it were complete."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await writer.drain()
        reset(writer.transport)

    async with world(serve) as here:
        reader, writer = await here.connect(tls=False)
        writer.write(GET)
        with pytest.raises(ConnectionResetError):
            await reader.read()
            await reader.read()
        writer.close()
