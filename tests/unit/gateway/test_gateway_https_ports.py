"""Ports whose services speak TLS themselves (``httpsPorts``): the gateway's own hop to them."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

from appliance.box import certificates
from appliance.box.layout import write_private


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """A service's, with a certificate that nobody trusts."""
    certificates.ensure(tmp_path, "127.0.0.1", write_private)
    certificates.ensure_domain(tmp_path, "self.signed", write_private)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(tmp_path / "domain.crt", tmp_path / "domain.key")
    return made


async def test_requests_reach_a_service_that_speaks_tls(
    world: Any, context: ssl.SSLContext, echo_handler: Any, address: str
) -> None:
    """Its certificate is not verified, the connection is kept, large bodies pass in both directions."""
    await world.start()
    await world.serve(echo_handler, context=context, tls=True)
    client = await world.connect()
    big = b"x" * 3_000_000
    for body in (b"small", big):
        head = f"POST /a HTTP/1.1\r\n{address}\r\nContent-Length: {len(body)}\r\n\r\n".replace("\nE2b", "\r\nE2b")
        await client.send(head.replace("\r\r", "\r").encode() + body)
        status, _, payload = await client.answer()
        assert status == 200 and payload.endswith(body)
    assert world.gateway.stats.dials == 1


async def test_an_upgrade_and_a_body_that_ends_by_closing(world: Any, context: ssl.SSLContext, address: str) -> None:
    """WebSocket bytes pass both ways; the end of the connection is the end of the body."""

    async def server(peer: Any) -> None:
        head = await peer.head()
        if b"Upgrade: websocket" not in head:
            await peer.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end")
            return
        await peer.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
        await peer.send(b"<" + await peer.exactly(4) + b">")

    await world.start()
    await world.serve(server, context=context, tls=True)
    status, _, payload = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert (status, payload) == (200, b"until the end")
    client = await world.connect()
    head = f"GET / HTTP/1.1\n{address}\nConnection: Upgrade\nUpgrade: websocket\n\n".replace("\n", "\r\n")
    await client.send(head.encode())
    assert b"101" in await client.head()
    assert await client.exactly(5) == b"hello"
    await client.send(b"ping")
    assert await client.rest() == b"<ping>"


async def test_a_service_on_loopback_is_reached_through_the_forwarder(
    world: Any, context: ssl.SSLContext, echo_handler: Any, address: str
) -> None:
    """TLS begins behind the forwarder's greeting, with the service, not with the forwarder."""

    async def forwarder(peer: Any) -> None:
        await peer.reader.readline()
        await peer.send(b"ok\n")
        await peer.writer.start_tls(context)
        await echo_handler(peer)

    await world.start()
    tunnel = await world.serve(forwarder, port=9)
    world.route("iabcdefghij0123456789", 8000, 1, tunnel_port=tunnel, tls=True)
    status, _, payload = await world.ask(f"GET /through HTTP/1.1\n{address}")
    assert status == 200 and payload.startswith(b"GET /through")
    assert world.gateway.stats.tunnels == 1


async def test_a_service_without_tls_is_told_from_a_closed_port(world: Any, address: str) -> None:
    """A handshake that is refused, or cut: 502 that names the option, at once and not five times over."""

    async def plain(peer: Any) -> None:
        await peer.exactly(5)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    async def mute(peer: Any) -> None:
        await peer.exactly(5)

    await world.start()
    for handler in (plain, mute):
        await world.serve(handler, tls=True)
        status, _, payload = await world.ask(f"GET / HTTP/1.1\n{address}")
        assert status == 502 and b"does not speak TLS on this port of httpsPorts" in payload
    assert len(world.dials) == 2


async def test_a_service_that_never_shakes_hands_is_given_up(world: Any, address: str) -> None:
    """The handshake is bounded as the dial is."""

    async def silent(peer: Any) -> None:
        await peer.rest()

    await world.start(connect_timeout=0.05)
    await world.serve(silent, tls=True)
    status, _, payload = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert status == 502 and b"httpsPorts" in payload
