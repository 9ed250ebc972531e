"""What lies between uvicorn's protocol and the socket: gathered writes, request bodies in pieces, sendfile."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from pathlib import Path

from appliance.runtime.transport import PAUSE, Body, Writer

MIB = 1024 * 1024


class FakeTransport:
    """Records what is written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


async def test_writes_of_one_turn_leave_together():
    """Small writes wait for the end of the turn and go out as one, a large one at once with what was before it."""
    transport = FakeTransport()
    writer = Writer(transport, asyncio.get_running_loop())
    writer.write(b"head ")
    writer.write(b"body")
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"head body"]
    writer.write(b"a")
    writer.write(bytes(MIB))
    assert transport.written[1:] == [b"a" + bytes(MIB)]
    await asyncio.sleep(0)
    assert len(transport.written) == 2


async def test_closing_writes_what_is_held_and_nothing_after():
    """An answer followed by a close is not lost; what comes after the close is."""
    transport = FakeTransport()
    writer = Writer(transport, asyncio.get_running_loop())
    writer.write(b"last words")
    writer.close()
    writer.write(b"too late")
    await asyncio.sleep(0)
    assert transport.written == [b"last words"]


class FakeCycle:
    """The members of uvicorn's cycle that a body uses, and of its flow control."""

    def __init__(self) -> None:
        self.message_event = asyncio.Event()
        self.waiting_for_100_continue = self.disconnected = self.response_complete = False
        self.more_body = True
        self.paused = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


async def test_a_body_pauses_its_sender_and_keeps_its_order():
    """A body nobody asks for stops the reading, however small its pieces; pieces keep their order, the last says so."""
    cycle = FakeCycle()
    body = Body(cycle, cycle)
    count = 0
    while not cycle.paused:
        body.feed(b"%04d" % count)
        count += 1
    assert count * 4 < PAUSE / 4
    cycle.more_body = False
    got = [await body.receive() for _ in range(count)]
    assert [each["body"] for each in got] == [b"%04d" % number for number in range(count)]
    assert [each["more_body"] for each in got] == [True] * (count - 1) + [False]
    rest = asyncio.create_task(body.receive())
    await asyncio.sleep(0)
    assert not rest.done()
    assert not cycle.paused
    cycle.disconnected = True
    cycle.message_event.set()
    assert (await rest)["type"] == "http.disconnect"


def sparse(path: Path, size: int, text: bytes, at: int) -> None:
    """A file of ``size`` bytes that costs no disk, with ``text`` somewhere."""
    with path.open("wb") as file:
        file.truncate(size)
        os.pwrite(file.fileno(), text, at)


async def test_a_large_file_passes_by_sendfile(envd):
    """A file far larger than any buffer arrives whole, and a range from its middle is the right one."""
    sparse(envd.home / "big", 96 * MIB, b"needle", 70 * MIB)
    size, found = 0, -1
    async with envd.http.stream("GET", "/files?path=big") as response:
        assert response.headers["content-length"] == str(96 * MIB)
        async for piece in response.aiter_raw():
            if found < 0 and (at := piece.find(b"needle")) >= 0:
                found = size + at
            size += len(piece)
    assert (size, found) == (96 * MIB, 70 * MIB)
    wanted = f"bytes={70 * MIB}-{71 * MIB}"
    part = await envd.http.get("/files?path=big", headers={"range": wanted})
    assert (part.status_code, len(part.content), part.content[:7]) == (206, MIB + 1, b"needle\0")


async def test_a_reader_that_vanishes_or_a_file_that_shrinks_ends_the_download(envd):
    """A reset in the middle and a truncated file both end the connection, leave no descriptor and no stuck task."""
    sparse(envd.home / "big", 96 * MIB, b"", 0)
    host, port = envd.url.removeprefix("http://").split(":")
    before = len(os.listdir("/proc/self/fd"))
    for end in ("reset", "shrink"):
        reader, writer = await asyncio.open_connection(host, int(port), limit=4096)
        writer.write(b"GET /files?path=big HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        if end == "reset":
            linger = struct.pack("ii", 1, 0)  # close is a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()
        else:
            os.truncate(envd.home / "big", 1)
            assert len(await reader.read()) < 96 * MIB  # the end of the connection, not of the body
            writer.close()
        del reader, writer
    async with asyncio.timeout(10):
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0)
    assert (await envd.http.get("/health")).status_code == 204
