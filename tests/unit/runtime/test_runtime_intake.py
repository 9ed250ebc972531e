"""Large upload bodies that worker threads take from the socket: the file, the connection afterwards, and bad ends."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct

import pytest

from appliance.runtime.files.multipart import MultipartParser, PartEnd
from appliance.runtime.intake import Intake

MIB = 1024 * 1024
BOUNDARY = "aXa"
HALF_ENDS = b"\r\n--aX\r\n--a\r\r\n-"
"""What nearly ends a part."""


@pytest.fixture
def turns(monkeypatch) -> list[Intake]:
    """The intake of every turn of a thread; empty where the loop read everything."""
    seen: list[Intake] = []
    carry = Intake.carry

    def spy(self: Intake, *arguments: object) -> None:
        seen.append(self)
        carry(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Intake, "carry", spy)
    return seen


class Raw:
    """One connection, by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, url: str) -> Raw:
        host, port = url.removeprefix("http://").split(":")
        return cls(*await asyncio.open_connection(host, int(port)))

    def head(self, target: str, size: int, kind: str = "application/octet-stream") -> None:
        head = f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\n\r\n"
        self.writer.write(head.encode())

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        sizes = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        body = await self.reader.readexactly(int(sizes[0].split(b":")[1])) if sizes else b""
        return int(head.split()[1]), body

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


def multipart(files: dict[str, bytes], epilogue: bytes = b"") -> bytes:
    """A body with these files."""
    head = '--%s\r\ncontent-disposition: form-data; name="file"; filename="%s"\r\n\r\n'
    parts = [(head % (BOUNDARY, name)).encode() + content + b"\r\n" for name, content in files.items()]
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode() + epilogue


async def test_the_connection_goes_on_after_a_large_body(envd, turns):
    """Two large uploads and a small request sent at once on one connection: three answers in order, whole files."""
    data = os.urandom(3 * MIB)
    raw = await Raw.open(envd.url)
    for name in ("one", "two"):
        raw.head(f"/files?path={name}", len(data))
        raw.writer.write(data)
    raw.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert [(await raw.answer())[0] for _ in range(3)] == [200, 200, 204]
    await raw.close()
    assert turns
    for name in ("one", "two"):
        assert (envd.home / name).read_bytes() == data


async def test_several_large_parts_and_what_lies_between(envd, turns):
    """Parts of every size in one body, full of half boundaries, keep their bytes; the epilogue belongs to none."""
    large = (HALF_ENDS + bytes(4000)) * 600
    files = {"a": large, "b": b"", "c": large + b"\r", "d": HALF_ENDS, "e": os.urandom(2 * MIB)}
    raw = await Raw.open(envd.url)
    body = multipart(files, bytes(MIB))
    raw.head("/files", len(body), f"multipart/form-data; boundary={BOUNDARY}")
    raw.writer.write(body)
    status, answer = await raw.answer()
    assert status == 200, answer
    raw.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await raw.answer())[0] == 204
    await raw.close()
    assert len({id(intake) for intake in turns}) >= 2  # the loop reads what begins a part, and what is short
    for name, content in files.items():
        assert (envd.home / name).read_bytes() == content


@pytest.mark.parametrize("kind", ["octets", "parts"])
async def test_a_client_that_pauses_holds_no_thread(envd, turns, kind):
    """More silent uploads than there are threads: each is at its pause, and the runtime answers; then all complete."""
    content = os.urandom(2 * MIB)
    octets = kind == "octets"
    raws = [await Raw.open(envd.url) for _ in range(40)]
    for number, raw in enumerate(raws):
        body = content if octets else multipart({str(number): content})
        target = f"/files?path={number}" if octets else "/files"
        type_ = "application/octet-stream" if octets else f"multipart/form-data; boundary={BOUNDARY}"
        raw.head(target, len(body), type_)
        raw.writer.write(body[: MIB + number])
        await raw.writer.drain()
    async with asyncio.timeout(60):
        while any(
            not (envd.home / str(n)).exists() or (envd.home / str(n)).stat().st_size < MIB // 2 for n in range(40)
        ):
            await asyncio.sleep(0.01)
        assert (await envd.rpc("filesystem.Filesystem/ListDir", {"path": ""})).status_code == 200  # takes a thread
        for number, raw in enumerate(raws):
            body = content if octets else multipart({str(number): content})
            raw.writer.write(body[MIB + number :])
        for raw in raws:
            assert (await raw.answer())[0] == 200
            await raw.close()
    assert turns
    assert all((envd.home / str(number)).read_bytes() == content for number in range(40))


async def test_a_full_disk_in_the_middle_is_507_and_the_connection_goes_on(envd, turns, monkeypatch):
    """The rest of the body is passed over, and the next request on the connection is answered."""
    raw = await Raw.open(envd.url)
    raw.head("/files?path=/dev/full", 4 * MIB)
    raw.writer.write(bytes(4 * MIB))
    status, answer = await raw.answer()
    assert (status, b"not enough disk space" in answer) == (507, True)
    raw.writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert (await raw.answer())[0] == 204
    await raw.close()


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_client_that_vanishes_leaves_a_beginning_and_no_descriptor(envd, turns, end):
    """What was sent is in the file, as with a copy that broke off, and nothing more; nothing stays open."""
    before = len(os.listdir("/proc/self/fd"))
    (envd.home / "cut").write_bytes(b"old" * 2 * MIB)
    data = os.urandom(2 * MIB)
    raw = await Raw.open(envd.url)
    raw.head("/files?path=cut", 4 * MIB)
    raw.writer.write(data)
    await raw.writer.drain()
    async with asyncio.timeout(60):
        while not turns:
            await asyncio.sleep(0.01)
        if end == "reset":
            linger = struct.pack("ii", 1, 0)  # close is a reset
            raw.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        await raw.close()
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.01)
    assert data.startswith((envd.home / "cut").read_bytes())
    assert (await envd.http.get("/health")).status_code == 204


async def test_an_end_of_the_runtime_ends_an_upload(envd, turns):
    """A server that stops does not wait for a client that is silent in the middle of a large body."""
    raw = await Raw.open(envd.url)
    raw.head("/files?path=cut", 4 * MIB)
    raw.writer.write(bytes(2 * MIB))
    async with asyncio.timeout(60):
        while not turns:
            await asyncio.sleep(0.01)
        await envd.runtime.stop()
        assert b" 200 " not in await raw.reader.read()  # to the connection's end
    await raw.close()


@pytest.mark.parametrize("seed", range(20))
def test_a_scan_finds_what_the_parser_finds(seed):
    """For random pieces of a part full of half boundaries ``scan`` passes on the same bytes as ``feed``."""
    chance = random.Random(seed)
    content = b"".join(chance.choice([b"\r", b"\n", b"--aXa", b"\r\n--aX", b"x" * 9]) for _ in range(200))
    content = content.replace(b"\r\n--aXa", b"")
    body = content + b"\r\n--aXa--"
    parser = MultipartParser(b"aXa")
    list(parser.feed(b"--aXa\r\n\r\n"))
    assert parser.in_file
    room, size, found, ended = bytearray(64), 0, b"", False
    while not ended:
        piece, body = body[: (count := chance.randint(1, 32))], body[count:]
        room[size : size + len(piece)] = piece
        size += len(piece)
        plain, ended = parser.scan(room, size)
        found += room[:plain]
        room[: size - plain] = room[plain:size]
        size -= plain
    events = [event for part in (bytes(room[:size]), body) for event in parser.feed(part)]
    parser.close()
    assert isinstance(events[-1], PartEnd)
    assert found + b"".join(event for event in events if isinstance(event, bytes)) == content
