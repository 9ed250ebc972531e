"""Bytes in motion: streams, upgrades, back-pressure, and connections that end at the wrong moment."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket

import pytest

ID = "iabcdefghij0123456789"
OK = b"HTTP/1.1 200 OK\r\n"


def request(first: str, address: str, *more: str) -> bytes:
    """A request head."""
    return "\r\n".join([first, *address.split("\n"), *more, "", ""]).encode()


async def until(condition) -> None:
    """Let the loop run until something is true; the test's own time-out bounds it."""
    while not condition():
        await asyncio.sleep(0)


async def test_events_arrive_as_they_are_sent(world, address):
    """Server-sent events pass one by one, before the answer ends."""
    step = asyncio.Event()

    async def handler(peer):
        await peer.head()
        await peer.send(OK + b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in range(3):
            await step.wait()
            step.clear()
            await peer.send(b"9\r\ndata: %d\n\n\r\n" % number)
        await peer.send(b"0\r\n\r\n")
        await peer.rest()

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    await client.send(request("GET /events HTTP/1.1", address))
    await client.head()
    for number in range(3):
        step.set()
        assert await client.exactly(14) == b"9\r\ndata: %d\n\n\r\n" % number
    assert await client.exactly(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("protocol", ["websocket", "tcp"])
async def test_an_upgrade_becomes_a_raw_splice(world, address, protocol):
    """After 101 both directions are raw, early bytes and half-closing included."""

    async def handler(peer):
        head = await peer.head()
        assert f"Connection: Upgrade\r\nUpgrade: {protocol}\r\n".encode() in head
        await peer.send(f"HTTP/1.1 101 Switching\r\nUpgrade: {protocol}\r\nConnection: upgrade\r\n\r\nhello".encode())
        await peer.send(b"got " + await peer.rest())

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    early = b"\x00GET / HTTP/1.1\r\n\r\n"
    await client.send(request("GET /ws HTTP/1.1", address, "Connection: Upgrade", f"Upgrade: {protocol}") + early)
    head = await client.head()
    assert head.startswith(b"HTTP/1.1 101 ") and f"Upgrade: {protocol}\r\n".encode() in head
    assert await client.exactly(5) == b"hello"
    assert gateway.stats.open_upgrades == 1
    await client.send(b"\xff" * 10)
    client.writer.write_eof()
    assert await client.rest() == b"got " + early + b"\xff" * 10
    await until(lambda: gateway.stats.open_upgrades == 0 and not gateway._hub.clients)


async def test_a_server_may_end_a_raw_splice_first(world, address):
    """Its end of file reaches the client, whose last words still reach it; then everything is closed."""
    heard = asyncio.get_running_loop().create_future()

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nbye")
        peer.writer.write_eof()
        heard.set_result(await peer.rest())

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address, "Connection: Upgrade", "Upgrade: x"))
    await client.head()
    assert await client.rest() == b"bye"
    await client.send(b"last words")
    await client.close()
    async with asyncio.timeout(5):
        assert await heard == b"last words"
        await until(lambda: not gateway._hub.clients and not gateway._hub.exchanges)


async def test_a_failure_of_the_routes_is_an_answer(world, address):
    """An exception behind the wake, or in the route itself, is logged and answered 500 or closes; nothing hangs."""
    from appliance.gateway import Refusal

    await world.start()
    world.routes.table[ID, 0] = Refusal.PAUSED_RESUMABLE

    async def wake(sandbox_id):
        world.routes.resolve = None
        return True

    world.routes.on_wake = wake
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 500


async def test_a_refused_upgrade_is_an_ordinary_answer(world, address):
    """A server that answers an offer to upgrade with 200 keeps the connection in HTTP."""

    async def handler(peer):
        while True:
            await peer.head()
            await peer.send(OK + b"Content-Length: 2\r\n\r\nno")

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    for _ in range(2):
        await client.send(request("GET / HTTP/1.1", address, "Connection: Upgrade", "Upgrade: websocket"))
        assert (await client.answer())[2] == b"no"


async def test_expect_continue_is_answered_by_the_server(world, address):
    """100 passes through before the client sends its body."""

    async def handler(peer):
        assert b"Expect: 100-continue\r\n" in await peer.head()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await peer.exactly(4)
        await peer.send(OK + b"Content-Length: 4\r\n\r\n" + body)
        await peer.rest()

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    await client.send(request("PUT / HTTP/1.1", address, "Expect: 100-continue", "Content-Length: 4"))
    assert (await client.answer())[0] == 100
    await client.send(b"body")
    assert (await client.answer())[2] == b"body"


@pytest.mark.parametrize(("method", "status", "extra"), [
    ("HEAD", "200 OK", b"Content-Length: 99\r\n"),
    ("GET", "204 No Content", b""),
    ("GET", "304 Not Modified", b"Content-Length: 99\r\n"),
])  # fmt: skip
async def test_answers_without_body_end_with_their_head(world, address, method, status, extra):
    """HEAD, 204 and 304: the connection is usable at once, whatever Content-Length says."""

    async def handler(peer):
        while True:
            await peer.head()
            await peer.send(b"HTTP/1.1 " + status.encode() + b"\r\n" + extra + b"\r\n")

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    for _ in range(2):
        await client.send(request(f"{method} / HTTP/1.1", address))
        assert (await client.answer(method=method))[0] == int(status[:3])
    assert len(world.dials) == 1


async def test_a_body_that_ends_by_closing_is_passed_to_its_end(world, address):
    """The client gets Connection: close and a clean end."""

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 100_000)

    await world.serve(handler)
    await world.start()
    status, fields, body = await world.ask(f"GET / HTTP/1.1\n{address}")
    assert (status, fields["connection"], len(body)) == (200, "close", 100_000)


async def test_an_early_answer_to_an_upload_arrives(world, address):
    """A server that refuses an upload half way and hangs up: the client still reads its answer."""

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")

    await world.serve(handler)
    await world.start(linger_timeout=1.0)
    client = await world.connect()
    await client.send(request("POST / HTTP/1.1", address, "Content-Length: 100000000"))
    await client.send(b"x" * 100_000)
    status, _, body = await client.answer()
    assert (status, body) == (413, b"big")
    assert await client.rest() == b""


@pytest.mark.parametrize("early", [True, False])
async def test_an_early_answer_says_that_the_connection_ends(world, address, early):
    """Also when the server would keep it: a client that sends its next request on it would find it closed. An answer
    to a whole upload keeps it.
    """

    async def handler(peer):
        await peer.head()
        if not early:
            await peer.exactly(10)
        await peer.send(b"HTTP/1.1 507 Full\r\nContent-Length: 3\r\n\r\nbig")
        await peer.rest()

    await world.serve(handler)
    await world.start(linger_timeout=1.0)
    client = await world.connect()
    await client.send(request("POST / HTTP/1.1", address, "Content-Length: 10"))
    if not early:
        await client.send(b"x" * 10)
    status, fields, body = await client.answer()
    assert (status, body) == (507, b"big")
    assert fields.get("connection") == ("close" if early else None)
    if early:
        assert await client.rest() == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 1000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_server_that_dies_in_the_middle_is_seen(world, address, framing):
    """A truncated answer never looks complete."""

    async def handler(peer):
        await peer.head()
        await peer.send(OK + framing + b"\r\n3e8\r\nabc")

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    assert framing in await client.head()
    assert await client.rest() == b"3e8\r\nabc"
    assert gateway.stats.truncated == 1


async def test_a_reset_in_a_body_that_ends_by_closing_is_a_reset(world, address):
    """Without a length only RST tells truncation from the end."""
    read = asyncio.Event()

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        await read.wait()
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.writer.transport.abort()

    await world.serve(handler)
    await world.start()
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    await client.head()
    assert await client.exactly(3) == b"abc"
    read.set()
    with pytest.raises(ConnectionResetError):
        await client.rest()


@pytest.mark.parametrize("how", ["in an upload", "by reset", "before more of the answer"])
async def test_a_vanished_client_closes_the_upstream(world, address, how):
    """Whether it was sending its body or waiting for an answer; one that closed shows it when something is sent."""
    arrived, gone, left = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def handler(peer):
        await peer.head()
        arrived.set()
        try:
            if how == "before more of the answer":
                await left.wait()
                await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await peer.rest()
        finally:
            gone.set()

    await world.serve(handler)
    gateway = await world.start(half_close_grace=0.01)
    client = await world.connect()
    await client.send(request("POST / HTTP/1.1", address, f"Content-Length: {9 if how == 'in an upload' else 0}"))
    await arrived.wait()
    if how == "by reset":
        client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    await client.close()
    left.set()
    async with asyncio.timeout(5):
        await gone.wait()
        await until(lambda: not gateway._hub.clients and not gateway._hub.exchanges)


@pytest.mark.parametrize("when", ["before the answer", "as it is written", "between head and body", "never"])
async def test_it_is_said_whether_the_answer_of_a_numbered_request_arrived(world, when):
    """A client that closed before the answer was whole did not get it, even if that is news of this instant."""
    heard: list[tuple[str, bool]] = []
    arrived, answer, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()
    numbers = []

    async def control(peer):
        head = (await peer.head()).decode()
        numbers.extend(line.partition(": ")[2] for line in head.split("\r\n") if line.startswith("X-Appliance-Receipt"))
        arrived.set()
        if when == "before the answer":
            assert await peer.rest() == b""
            gone.set()
            return
        if when == "between head and body":
            await peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n")
        await answer.wait()
        if when == "between head and body":
            assert await peer.rest() == b""  # cut: nobody waits for the body
        else:
            await peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")

    await world.serve_control(control)
    gateway = await world.start()
    gateway._hub.on_receipt = lambda *said: heard.append(said)
    client = await world.connect()
    await client.send(request("POST /sandboxes HTTP/1.1", "Host: x", "X-Appliance-Receipt: 99", "Content-Length: 0"))
    await arrived.wait()
    if when == "as it is written":
        # The gateway's own view is held back: only the kernel knows of the closing when the answer comes.
        (held,) = gateway._hub.clients
        held.transport.pause_reading()
    if when == "between head and body":
        await client.head()
        assert heard == []
    if when != "never":
        await client.close()
    answer.set()
    async with asyncio.timeout(5):
        await until(lambda: bool(heard))
    assert len(numbers) == 1
    assert numbers != ["99"], "a client's own number must not pass for one of ours"
    assert heard == [(numbers[0], when == "never")]


async def test_a_client_that_shuts_down_sending_still_gets_its_answer(world, echo_handler, address):
    """Half-closing after the request is not leaving."""
    await world.serve(echo_handler)
    await world.start()
    client = await world.connect()
    await client.send(request("GET /1 HTTP/1.1", address) + request("GET /2 HTTP/1.1", address))
    client.writer.write_eof()
    text = await client.rest()
    assert text.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("port", [8000, 49983, 49999])
async def test_half_a_close_leaves_a_slow_answer_alone(world, port):
    """However long a sandbox takes, a client that only sends no more is answered. Servers of users do not hear of the
    half close, which many of them take for a whole one; the runtime does, and its connection is not used again.
    """
    silent, answer, ends = asyncio.Event(), asyncio.Event(), []

    async def handler(peer):
        while await peer.head():
            silent.set()
            ending = asyncio.ensure_future(peer.reader.read(1))
            await answer.wait()
            ends.append(ending.done())
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    await world.serve(handler, port=port)
    gateway = await world.start(half_close_grace=0.01)
    client = await world.connect()
    await client.send(request("POST / HTTP/1.1", f"Host: {port}-{ID}.a.test", "Content-Length: 0"))
    await silent.wait()
    client.writer.write_eof()
    (held,) = gateway._hub.clients
    await until(lambda: held.half_closed)
    await asyncio.sleep(0.05)  # several times the grace
    answer.set()
    assert (await client.rest()).endswith(b"\r\n\r\nok")
    assert ends == [port != 8000]
    assert len(gateway._hub.pool) == (port == 8000)


async def test_requests_sent_ahead_of_half_a_close_are_all_served(world, address):
    """The second is routed, and its end passed on, only once the first is answered."""
    step = asyncio.Event()

    async def handler(peer):
        for _ in range(2):
            await peer.head()
            await step.wait()
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    await world.serve(handler)
    await world.start(half_close_grace=0.01)
    client = await world.connect()
    await client.send(request("GET /1 HTTP/1.1", address) + request("GET /2 HTTP/1.1", address))
    client.writer.write_eof()
    await asyncio.sleep(0.05)
    step.set()
    assert (await client.rest()).count(b"\r\n\r\nok") == 2


@pytest.mark.parametrize("left", ["half", "whole", "at last"])
async def test_a_create_of_a_half_closed_client_is_answered_and_its_arrival_known(world, left):
    """Its system acknowledges the answer, or resets it when nobody reads there any more, as of one closed at once or
    while the answer was made: that is told.
    """
    heard: list[tuple[str, bool]] = []
    arrived, answer = asyncio.Event(), asyncio.Event()

    async def control(peer):
        await peer.head()
        arrived.set()
        await answer.wait()
        await peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
        await peer.rest()

    await world.serve_control(control)
    gateway = await world.start(half_close_grace=60)
    gateway._hub.on_receipt = lambda *said: heard.append(said)
    client = await world.connect()
    await client.send(request("POST /sandboxes HTTP/1.1", "Host: x", "Content-Length: 0"))
    await arrived.wait()
    if left != "whole":
        client.writer.write_eof()
    else:
        await client.close()
    (held,) = gateway._hub.clients
    await until(lambda: held.half_closed)
    if left == "at last":
        await client.close()
    answer.set()
    if left == "half":
        assert (await client.rest()).endswith(b"\r\n\r\n{}")
    async with asyncio.timeout(5):
        await until(lambda: bool(heard))
        await until(lambda: not gateway._hub.clients)
    assert [delivered for _, delivered in heard] == [left == "half"]


async def test_a_half_closed_client_of_the_control_api_has_little_patience(world):
    """Without a byte within the grace it counts as gone: places in the line of creates are for those who wait."""
    heard: list[tuple[str, bool]] = []

    async def control(peer):
        await peer.head()
        assert await peer.rest() == b""

    await world.serve_control(control)
    gateway = await world.start(half_close_grace=0.01)
    gateway._hub.on_receipt = lambda *said: heard.append(said)
    client = await world.connect()
    await client.send(request("POST /sandboxes HTTP/1.1", "Host: x", "Content-Length: 0"))
    client.writer.write_eof()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert [delivered for _, delivered in heard] == [False]


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_stalled_reader_does_not_fill_our_memory(world, address, chunked):
    """The server is stopped after a bounded number of bytes, and everything arrives once the client reads."""
    size, block, sent, full = 64 << 20, 1 << 16, 0, asyncio.Event()

    async def handler(peer):
        nonlocal sent
        await peer.head()
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
        await peer.send(OK + framing + b"\r\n\r\n")
        while sent < size:
            peer.writer.write(b"10000\r\n" + bytes(block) + b"\r\n" if chunked else bytes(block))
            full.set() if peer.writer.transport.get_write_buffer_size() else full.clear()
            await peer.writer.drain()
            sent += block
        await peer.send(b"0\r\n\r\n" if chunked else b"")
        await peer.rest()

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    client.writer.transport.pause_reading()
    await client.send(request("GET / HTTP/1.1", address))
    await _stalled(lambda: sent, full)
    assert sum(c.transport.get_write_buffer_size() for c in gateway._hub.clients) <= 3 * 256 * 1024
    assert sent < size
    client.writer.transport.resume_reading()
    if chunked:
        assert len((await client.answer())[2]) == size
        return
    await client.head()
    left = size
    while left:
        left -= len(await client.reader.read(1 << 20))


async def _stalled(counter, full) -> None:
    """Until the sender's buffer is full and no byte has moved for a thousand turns of the loop."""
    turns, seen = 0, -1
    while turns < 1000:
        await asyncio.sleep(0)
        turns = turns + 1 if full.is_set() and counter() == seen else 0
        seen = counter()


async def test_a_stalled_server_pauses_the_upload(world, address):
    """An upload to a server that does not read stops at our buffer; it completes when the server reads."""
    size, go = 64 << 20, asyncio.Event()

    async def handler(peer):
        await peer.head()
        await go.wait()
        left = size
        while left:
            left -= len(await peer.reader.read(1 << 20))
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")
        await peer.rest()

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    client.writer.write(request("PUT / HTTP/1.1", address, f"Content-Length: {size}"))
    client.writer.write(bytes(size))
    await until(lambda: any(not c.transport.is_reading() for c in gateway._hub.clients))
    assert gateway.stats.bytes_in < 32 << 20  # the kernel's buffers and ours
    go.set()
    assert (await client.answer())[2] == b"ok"


async def test_a_stale_connection_is_replaced_for_requests_that_may_be_repeated(world, address):
    """GET is sent again on a new connection; POST is answered 502, never run twice."""
    served = []

    async def handler(peer):
        while True:
            served.append((await peer.head()).split()[0])
            if served[-1] == b"POST" or len(served) == 2:
                return  # hang up instead of answering
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    await world.serve(handler)
    gateway = await world.start()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 200
    assert gateway.stats.retries == 1
    status, _, body = await world.ask(f"POST / HTTP/1.1\n{address}\nContent-Length: 0")
    assert (status, json.loads(body)["code"]) == (502, 502)
    assert served == [b"GET", b"GET", b"GET", b"POST"]


async def test_bytes_nobody_asked_for_end_the_upstream(world, address):
    """A server that sends a second answer after its first cannot poison the next request."""
    first = asyncio.Event()

    async def handler(peer):
        await peer.head()
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")
        await first.wait()
        peer.writer.write(OK + b"Content-Length: 4\r\n\r\nevil")
        await peer.rest()

    await world.serve(handler)
    gateway = await world.start()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[2] == b"ok"
    assert len(gateway._hub.pool) == 1
    first.set()
    await until(lambda: not len(gateway._hub.pool))
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[2] == b"ok"


async def test_loopback_servers_are_reached_through_the_forwarder(world, echo_handler, address):
    """A refused dial goes through the tunnel port, which is told port and token; a no is port not open."""
    asked, reply = [], [b"ok\n"]

    async def tunnel(peer):
        asked.append(json.loads(await peer.reader.readline()))
        await peer.send(reply[0])
        if reply[0] == b"ok\n":
            await echo_handler(peer)

    real = await world.serve(tunnel, port=49982)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = probe.getsockname()[1]
    world.route(ID, 8000, closed, tunnel_port=real, token="t0ken")
    gateway = await world.start(connect_attempts=1, upstream_idle_timeout=0.01)
    status, _, body = await world.ask(f"GET /in HTTP/1.1\n{address}")
    assert (status, body[:8]) == (200, b"GET /in ")
    assert asked == [{"port": closed, "token": "t0ken"}]
    assert gateway.stats.tunnels == 1
    await until(lambda: not len(gateway._hub.pool))
    for reply[0] in (b"refused\n", b"denied\n", b"x" * 100, b""):
        assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 502


async def test_the_forwarder_and_the_events_service_are_not_reachable(world, echo_handler):
    """Their ports belong to the platform."""
    real = await world.serve(echo_handler, port=49982)
    world.route(ID, 49982, real, tunnel_port=49982)
    world.route(ID, 49981, real)
    await world.start()
    for port in (49981, 49982):
        assert (await world.ask(f"GET / HTTP/1.1\nHost: {port}-{ID}.sbx.test"))[0] == 502


async def test_reset_cuts_streams_by_rst_and_then_answers_502(world, address):
    """A killed sandbox's streams end with RST in the middle; the next request is 502; others live on."""

    async def handler(peer):
        await peer.head()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await peer.rest()

    other = "iother"
    await world.serve(handler)
    await world.serve(handler, sandbox_id=other)
    gateway = await world.start()
    mine, bystander = await world.connect(), await world.connect()
    await mine.send(request("GET / HTTP/1.1", address))
    await bystander.send(request("GET / HTTP/1.1", f"Host: 8000-{other}.sbx.test"))
    for client in (mine, bystander):
        await client.head()
        await client.exactly(8)
    world.routes.table.pop((ID, 8000))
    assert gateway.reset(ID) == 1
    with pytest.raises(ConnectionResetError):
        await mine.rest()
    assert (await world.ask(f"GET /health HTTP/1.1\n{address}"))[0] == 502
    assert gateway.stats.resets == 1
    assert gateway.reset(ID) == 0
    assert not bystander.reader.at_eof()


async def silent(world):
    """The gateway, a client of it and the event of a request's arrival at a sandbox that never answers."""
    arrived = asyncio.Event()

    async def handler(peer):
        await peer.head()
        arrived.set()
        await peer.rest()

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    return gateway, client, arrived


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_request_without_an_answer_is_told_that_its_sandbox_is_gone(world, address, method):
    """Killed while a request waits, its body half sent: 502 as for the next one, and no connection or task stays."""
    gateway, client, arrived = await silent(world)
    length, half = (["Content-Length: 100"], b"half") if method == "POST" else ([], b"")
    await client.send(request(f"{method} /health HTTP/1.1", address, *length) + half)
    await arrived.wait()
    world.routes.table.pop((ID, 8000))
    assert gateway.reset(ID) == 1
    status, fields, body = await client.answer()
    assert status == 502 and json.loads(body)["message"] == "The sandbox was not found"
    assert ("connection" in fields) == (method == "POST")
    await until(lambda: not gateway._hub.exchanges and not len(gateway._hub.pool))
    if method == "GET":
        await client.send(request("GET /health HTTP/1.1", address))
        assert (await client.answer())[0] == 502


async def test_reset_of_a_sandbox_that_is_still_routed_cuts_its_requests(world, address):
    """Whoever resets without taking the route away means the connections."""
    gateway, client, arrived = await silent(world)
    await client.send(request("GET / HTTP/1.1", address))
    await arrived.wait()
    assert gateway.reset(ID) == 1
    with pytest.raises(ConnectionResetError):
        await client.rest()


async def test_reset_ends_dials_and_wakes(world, address):
    """Requests that still wait for their sandbox are told that it is between two states, and leave no task behind."""
    from appliance.gateway import Refusal

    world.routes.table[ID, 0] = Refusal.PAUSED_RESUMABLE

    async def wake(sandbox_id):
        await asyncio.Event().wait()
        return True

    world.routes.on_wake = wake
    gateway = await world.start()
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    await until(lambda: gateway._hub.exchanges)
    assert gateway.reset(ID) == 1
    assert (await client.head()).startswith(b"HTTP/1.1 409")
    assert not gateway._hub.exchanges


async def test_drain_finishes_what_is_in_flight(world, address):
    """No new connections, idle ones closed, the running answer completed with Connection: close."""
    arrived, go = asyncio.Event(), asyncio.Event()

    async def handler(peer):
        await peer.head()
        arrived.set()
        await go.wait()
        await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    await world.serve(handler)
    gateway = await world.start(drain_timeout=5.0)
    idle, busy = await world.connect(), await world.connect()
    await busy.send(request("GET / HTTP/1.1", address))
    await arrived.wait()
    address_of_gateway = gateway.addresses[0]
    draining = asyncio.create_task(gateway.drain())
    assert await idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address_of_gateway)
    go.set()
    status, fields, body = await busy.answer()
    assert (status, fields["connection"], body) == (200, "close", b"ok")
    await draining


async def test_a_leaving_gateway_serves_on_and_says_close(world, address):
    """Kept connections and new ones are answered, with Connection: close, until the time is over; then as usual."""

    async def handler(peer):
        while await peer.head():
            await peer.send(OK + b"Content-Length: 2\r\n\r\nok")

    await world.serve(handler)
    gateway = await world.start(leave_time=600.0)
    kept = await world.connect()
    await kept.send(request("GET / HTTP/1.1", address))
    status, fields, _ = await kept.answer()
    assert status == 200 and "connection" not in fields
    draining = asyncio.create_task(gateway.drain())
    while not gateway._hub.draining:
        await asyncio.sleep(0)
    for client in (kept, await world.connect()):
        await client.send(request("GET / HTTP/1.1", address))
        status, fields, body = await client.answer()
        assert (status, fields["connection"], body) == (200, "close", b"ok")
        assert await client.rest() == b""
    idle = await world.connect()
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    gateway._settings = dataclasses.replace(gateway._settings, leave_time=0.0)
    await gateway.drain()
    assert await idle.rest() == b""


async def test_a_gateway_that_has_left_ends_with_its_last_client(world, address):
    """After the time for leaving an idle connection is closed, and the drain returns."""
    gateway = await world.start(leave_time=0.01, drain_timeout=600.0)
    idle = await world.connect()
    await asyncio.wait_for(gateway.drain(), 60)
    assert await idle.rest() == b""
    assert not gateway._hub.clients


async def test_drain_is_bounded(world, address):
    """Streams that do not end are cut after drain_timeout."""

    async def handler(peer):
        await peer.head()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        await peer.rest()

    await world.serve(handler)
    gateway = await world.start(drain_timeout=0.05)
    client = await world.connect()
    await client.send(request("GET / HTTP/1.1", address))
    await client.head()
    await gateway.drain()
    with pytest.raises(ConnectionResetError):
        await client.rest()
    assert not gateway._hub.clients


async def test_silent_pairs_are_closed_but_websockets_are_not(world, address):
    """idle_timeout is 504 for a request without answer; an idle WebSocket stays."""

    async def handler(peer):
        if b"Upgrade" in await peer.head():
            await peer.send(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            await peer.send(await peer.exactly(2))
        await peer.rest()

    await world.serve(handler)
    gateway = await world.start(idle_timeout=0.05)
    ws = await world.connect()
    await ws.send(request("GET / HTTP/1.1", address, "Connection: Upgrade", "Upgrade: websocket"))
    await ws.head()
    assert (await world.ask(f"GET / HTTP/1.1\n{address}"))[0] == 504
    assert gateway.stats.timeouts == 1
    await ws.send(b"hi")
    assert await ws.exactly(2) == b"hi"


async def test_a_hundred_connections_to_one_sandbox(world, echo_handler, address):
    """All at once, ten requests each, every answer its own."""
    await world.serve(echo_handler)
    gateway = await world.start()

    async def use(number: int) -> None:
        client = await world.connect()
        for turn in range(10):
            await client.send(request(f"GET /{number}/{turn} HTTP/1.1", address))
            assert (await client.answer())[2].startswith(b"GET /%d/%d " % (number, turn))

    await asyncio.gather(*(use(number) for number in range(100)))
    assert gateway.stats.requests == {("sandbox", "2xx"): 1000}


async def test_requests_sent_ahead_are_bounded(world, address):
    """A client that pipelines without reading is paused, and everything is answered in order in the end."""
    go = asyncio.Event()

    async def handler(peer):
        while True:
            path = (await peer.head()).split()[1]
            await go.wait()
            await peer.send(OK + b"Content-Length: %d\r\n\r\n" % len(path) + path)

    await world.serve(handler)
    gateway = await world.start()
    client = await world.connect()
    for number in range(5000):
        client.writer.write(request(f"GET /{number} HTTP/1.1", address))
    await until(lambda: any(not c.transport.is_reading() for c in gateway._hub.clients))
    assert all(len(c._buffer) < 600_000 for c in gateway._hub.clients)
    go.set()
    for number in range(5000):
        assert (await client.answer())[2] == b"/%d" % number
