"""Request heads: split anywhere, smuggled, too big, too slow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import subprocess

import pytest

ID = "iabcdefghij0123456789"
HEAD = f"Host: localhost\r\nE2b-Sandbox-Id: {ID}\r\nE2b-Sandbox-Port: 8000\r\n"


async def test_a_request_may_be_split_at_every_byte(world, echo_handler):
    """Wherever the network cuts two pipelined requests, chunked body included, the answers are the same."""
    await world.serve(echo_handler)
    await world.start()
    first = (
        f"POST /a HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5;x=y\r\nhello\r\n0\r\nT: v\r\n\r\n"
    )
    second = f"POST /b HTTP/1.1\r\n{HEAD}Content-Length: 4\r\n\r\nwxyz"
    whole = (first + second).encode()
    client = await world.connect()
    gateway = world.gateway
    for cut in range(1, len(whole)):
        seen = gateway.stats.bytes_in
        await client.send(whole[:cut])
        while gateway.stats.bytes_in < seen + cut:
            await asyncio.sleep(0)
        await client.send(whole[cut:])
        one, two = await client.answer(), await client.answer()
        assert one[2].startswith(b"POST /a ") and one[2].endswith(b"\r\n\r\nabchello")
        assert two[2].startswith(b"POST /b ") and two[2].endswith(b"\r\n\r\nwxyz")


async def test_a_request_may_come_byte_by_byte(world, echo_handler):
    """Single bytes, with the empty lines that old clients put in front of a request."""
    await world.serve(echo_handler)
    await world.start()
    client = await world.connect()
    for byte in f"\r\n\r\nGET /slow HTTP/1.1\r\n{HEAD}\r\n".encode():
        seen = world.gateway.stats.bytes_in
        await client.send(bytes([byte]))
        while world.gateway.stats.bytes_in == seen:
            await asyncio.sleep(0)
    assert (await client.answer())[2].startswith(b"GET /slow ")


@pytest.mark.parametrize(
    ("request_text", "status"),
    [
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: 3, 3\r\n\r\nabc", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: +3\r\n\r\nabc", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Content-Length: -1\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"POST / HTTP/1.0\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}X: a\r\n b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}X: a\0b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}X: a\nY: b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}X: a\rY: b\r\n\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}X : a\r\n\r\n", 400),
        (f"GET / HTTP/1.1\n{HEAD}\r\n", 400),
        (f"GET /\0 HTTP/1.1\r\n{HEAD}\r\n", 400),
        (f"GET relative HTTP/1.1\r\n{HEAD}\r\n", 400),
        (f"GET / HTTP/2.0\r\n{HEAD}\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n", 405),
        (f"FOO / HTTP/1.1\r\n{HEAD}\r\n", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}Expect: miracles\r\n\r\n", 417),
        ("\x16\x03\x01\x02\x00\x01", 400),
        (f"GET / HTTP/1.1\r\n{HEAD}X: {'y' * 70_000}\r\n\r\n", 431),
        ("GET /" + "y" * 70_000, 431),
    ],
)
async def test_doubtful_requests_are_refused_and_the_connection_ends(world, echo_handler, request_text, status):
    """What two parsers could read in two ways is never forwarded."""
    await world.serve(echo_handler)
    await world.start()
    client = await world.connect()
    await client.send(request_text.encode("latin-1"))
    found, fields, body = await client.answer()
    assert found == status
    assert fields["connection"] == "close"
    assert json.loads(body)["code"] == status
    assert await client.rest() == b""
    assert world.dials == []


@pytest.mark.parametrize(
    "chunks",
    [
        "g\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n",
        "3\r\nabcd\r\n",
        "3;a\rb\r\nabc\r\n",
        "0x3\r\nabc\r\n",
        "3" * 17 + "\r\n",
    ],
)
async def test_bad_chunks_are_400(world, echo_handler, chunks):
    """A chunked body that breaks its framing is cut off, and so is the upstream that was receiving it."""
    await world.serve(echo_handler)
    await world.start()
    client = await world.connect()
    await client.send(f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n{chunks}".encode())
    assert (await client.answer())[0] == 400
    assert await client.rest() == b""


async def test_absolute_targets_are_put_into_origin_form(world, echo_handler):
    """The target's authority wins over Host, for the route too."""
    await world.serve(echo_handler)
    await world.start()
    status, _, body = await world.ask(f"GET http://8000-{ID}.sbx.test?q=/1 HTTP/1.1\nHost: other.test")
    assert status == 200
    assert body.startswith(f"GET /?q=/1 HTTP/1.1\r\nHost: 8000-{ID}.sbx.test\r\n".encode())


async def test_control_bodies_are_limited(world, echo_handler):
    """413 by Content-Length at once and by chunks as soon as it shows; sandboxes have no such limit."""
    await world.serve_control(echo_handler)
    await world.serve(echo_handler)
    await world.start(max_control_body=1000)
    assert (await world.ask("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 1001", b"a" * 1001))[0] == 413
    chunks = b"400\r\n" + b"a" * 1024 + b"\r\n0\r\n\r\n"
    assert (await world.ask("POST /x HTTP/1.1\nHost: localhost\nTransfer-Encoding: chunked", chunks))[0] == 413
    assert (await world.ask("POST /x HTTP/1.1\nHost: localhost\nContent-Length: 1000", b"a" * 1000))[0] == 200
    big = f"POST / HTTP/1.1\n{HEAD}Content-Length: 5000".replace("\r\n", "\n")
    assert (await world.ask(big, b"a" * 5000))[0] == 200


async def test_slow_heads_are_408(world):
    """A head that does not arrive in time is answered; a connection that never spoke is closed silently."""
    gateway = await world.start(head_timeout=0.05)
    silent, slow = await world.connect(), await world.connect()
    await slow.send(b"GET / HTTP/1.1\r\nHost: l")
    assert (await slow.answer())[0] == 408
    assert await silent.rest() == b""
    assert gateway.stats.timeouts == 2


async def test_idle_connections_are_closed(world, echo_handler, address):
    """Kept connections end after keepalive_timeout."""
    await world.serve(echo_handler)
    await world.start(keepalive_timeout=0.05)
    client = await world.connect()
    await client.send(f"GET / HTTP/1.1\n{address}\n\n".replace("\n", "\r\n").encode())
    assert (await client.answer())[0] == 200
    assert await client.rest() == b""


async def test_too_many_connections_are_503(world, echo_handler, address):
    """The connection beyond the limit is told so; a place that becomes free is used."""
    await world.serve(echo_handler)
    gateway = await world.start(max_connections=2)
    first, _ = await world.connect(), await world.connect()
    third = await world.connect()
    assert (await third.answer())[0] == 503
    assert await third.rest() == b""
    await third.close()
    await first.close()
    while len(gateway._hub.clients) > 1:
        await asyncio.sleep(0)
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200
    assert gateway.stats.rejected_connections == 1


async def test_http_1_0_clients_are_served(world, address):
    """Chunks are taken off, the end is the end of the connection; keep-alive works where a length is known."""

    async def handler(peer):
        while True:
            path = (await peer.head()).split()[1]
            if path == b"/chunked":
                await peer.send(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
                )
            else:
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    await client.send(f"GET / HTTP/1.0\n{address}\nConnection: keep-alive\n\n".replace("\n", "\r\n").encode())
    status, fields, body = await client.answer()
    assert (status, fields["connection"], body) == (200, "keep-alive", b"ok")
    await client.send(f"GET /chunked HTTP/1.0\n{address}\n\n".replace("\n", "\r\n").encode())
    status, fields, body = await client.answer()
    assert (status, fields["connection"], body) == (200, "close", b"abcde")
    assert "transfer-encoding" not in fields


async def test_random_bytes_never_hang_or_break_the_gateway(world, echo_handler, address):
    """Mutations of valid requests are answered or closed, and the gateway serves the next client as before."""
    await world.serve(echo_handler)
    await world.start(head_timeout=0.3, idle_timeout=0.3, linger_timeout=0.1)
    chance = random.Random(7)
    seed = bytearray(f"POST /a HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".encode())
    clients = []
    for _ in range(300):
        mutant = bytearray(seed)
        for _ in range(chance.randint(1, 4)):
            mutant[chance.randrange(len(mutant))] = chance.choice(b"\r\n\0 :;a0\xff")
        client = await world.connect()
        await client.send(bytes(mutant))
        client.writer.write_eof()
        clients.append(client)
    for client in clients:
        with contextlib.suppress(ConnectionResetError):
            await client.rest()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200


async def test_tls_speaks_http_1_1_to_clients_that_offer_2(world, echo_handler, address, tmp_path):
    """ALPN picks http/1.1; the upstream is told that the client came by https."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
        check=True, capture_output=True,
    )  # fmt: skip
    await world.serve(echo_handler)
    gateway = await world.start(tls_cert=cert, tls_key=key)
    context = ssl.create_default_context(cafile=str(cert))
    context.set_alpn_protocols(["h2", "http/1.1"])
    host, port = gateway.addresses[0]
    reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname="localhost")
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
    writer.write(f"GET / HTTP/1.1\n{address}\nConnection: close\n\n".replace("\n", "\r\n").encode())
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"X-Forwarded-Proto: https\r\n" in answer
    writer.close()
    await writer.wait_closed()


async def test_ipv6_is_served(world, echo_handler, address):
    """A listener on ::1 forwards the client's IPv6 address."""
    await world.serve(echo_handler)
    await world.start(listen="[::1]:0")
    status, _, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert status == 200
    assert b"X-Forwarded-For: ::1\r\n" in body
