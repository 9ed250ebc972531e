"""The raw rows: each takes a target and gives samples in seconds. The same function runs against the runtime and
against the canned server, so the floor is of the very same client code.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from canned import OUTPUT, SIZE
from client import Connection, Target, b64, frames, start_of

Sample = Callable[[Target, int], Awaitable[list[float]]]
BOUNDARY = "9f86d081884c7d659a2feaa0c55ad015"  # as long as the SDK's
LOGIN = ("/bin/bash", "-l", "-c")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    run: Sample
    times: int
    goal: float
    unit: str = "ms"
    """``ms``: a time, smaller is better; ``/s`` and ``MB/s``: a rate, larger is better."""
    size: int = 0
    """Bytes moved by one sample, for ``MB/s``."""
    floor: Sample | None = None
    """How the floor is taken where the canned server cannot play the row's part."""
    bare: tuple[str, ...] = ()
    """The program whose bare spawn belongs beside it."""


@contextlib.asynccontextmanager
async def connected(target: Target) -> AsyncIterator[Connection]:
    """A connection for the length of a block."""
    connection = await target.connect()
    try:
        yield connection
    finally:
        connection.close()


async def repeat(target: Target, request: bytes | tuple[bytes, bytes, bytes], times: int) -> list[float]:
    """The same request ``times`` times on one connection, after one for warming."""
    spans = []
    async with connected(target) as connection:
        await connection.fetch(request)
        for _ in range(times):
            began = time.perf_counter()
            await connection.fetch(request)
            spans.append(time.perf_counter() - began)
    return spans


def same(make: Callable[[Target], bytes | tuple[bytes, bytes, bytes]]) -> Sample:
    """A row that repeats one request."""

    async def run(target: Target, times: int) -> list[float]:
        return await repeat(target, make(target), times)

    return run


unary = same(lambda target: target.rpc("process.Process/List", {}))


def in_flight(connections: int, *argv: str) -> Sample:
    """Commands on several connections at once; the samples are seconds per command, overall."""

    async def run(target: Target, times: int) -> list[float]:
        request = target.start(*argv)
        open_ = [await target.connect() for _ in range(connections)]

        async def one(connection: Connection) -> None:
            for _ in range(times // connections):
                await connection.fetch(request)

        await asyncio.gather(*(connection.fetch(request) for connection in open_))
        began = time.perf_counter()
        await asyncio.gather(*(one(connection) for connection in open_))
        span = time.perf_counter() - began
        for connection in open_:
            connection.close()
        return [span / (times // connections * connections)]

    return run


def first(what: bytes, *argv: str) -> Sample:
    """From sending ``Start`` to the first frame that contains ``what``."""

    async def run(target: Target, times: int) -> list[float]:
        spans = []
        request = target.start(*argv)
        async with connected(target) as connection:
            for _ in range(times):
                began = time.perf_counter()
                await connection.send(request)
                seen = 0.0
                async for _flags, data in frames(connection):
                    if not seen and what in data:
                        seen = time.perf_counter() - began
                spans.append(seen)
        return spans

    return run


async def kill_to_end(target: Target, times: int) -> list[float]:
    """From sending SIGKILL to the end event on the other connection."""
    spans = []
    async with connected(target) as watched, connected(target) as control:
        for _ in range(times):
            await watched.send(target.start("/bin/sleep", "1000"))
            events = frames(watched)
            _, data = await anext(events)
            pid = json.loads(data)["event"]["start"]["pid"]
            message = {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}
            began = time.perf_counter()
            await asyncio.gather(control.fetch(target.rpc("process.Process/SendSignal", message)), anext(events))
            spans.append(time.perf_counter() - began)
            async for _ in events:
                pass
    return spans


async def pty_echo(target: Target, times: int) -> list[float]:
    """From sending a byte to a terminal to its echo."""
    spans = []
    async with connected(target) as watched, connected(target) as control:
        pty = {"size": {"cols": 80, "rows": 24}}
        await watched.send(target.stream("process.Process/Start", {"process": {"cmd": "/bin/cat"}, "pty": pty}))
        events = frames(watched)
        _, data = await anext(events)
        selector = {"pid": json.loads(data)["event"]["start"]["pid"]}
        request = target.rpc("process.Process/SendInput", {"process": selector, "input": {"pty": b64(b"x")}})
        for _ in range(times):
            began = time.perf_counter()
            await asyncio.gather(control.fetch(request), anext(events))
            spans.append(time.perf_counter() - began)
        await control.fetch(target.rpc("process.Process/SendSignal", {"process": selector, "signal": "SIGNAL_SIGKILL"}))
    return spans


def watch_event(home: Path) -> Sample:
    """From creating a file to its event; ``home`` is the sandbox's, seen from here."""

    async def run(target: Target, times: int) -> list[float]:
        spans = []
        (home / "watched").mkdir(exist_ok=True)
        async with connected(target) as connection:
            await connection.send(target.stream("filesystem.Filesystem/WatchDir", {"path": str(home / "watched")}))
            events = frames(connection)
            await anext(events)
            for index in range(times):
                path = home / "watched" / str(index)
                began = time.perf_counter()
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                await anext(events)
                spans.append(time.perf_counter() - began)
                path.unlink()
                await anext(events)
        return spans

    return run


def touch_and_ask(home: Path) -> Sample:
    """The floor of ``watch_event``: create the file, then the shortest exchange there is."""

    async def run(target: Target, times: int) -> list[float]:
        spans = []
        async with connected(target) as connection:
            request = target.request("GET", "/health")
            for index in range(times):
                path = home / f"floor{index}"
                began = time.perf_counter()
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
                await connection.fetch(request)
                spans.append(time.perf_counter() - began)
                path.unlink()
        return spans

    return run


def multipart(size: int, name: str) -> Callable[[Target], bytes | tuple[bytes, bytes, bytes]]:
    """An upload as the SDK sends ``str`` and ``bytes``."""
    head = f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
    before, after = (
        (head + "content-type: application/octet-stream\r\n\r\n").encode(),
        f"\r\n--{BOUNDARY}--\r\n".encode(),
    )
    return _upload("/files", f"multipart/form-data; boundary={BOUNDARY}", before, size, after)


def octets(size: int, name: str) -> Callable[[Target], bytes | tuple[bytes, bytes, bytes]]:
    """An upload as a plain body."""
    return _upload(f"/files?path={name}", "application/octet-stream", b"", size, b"")


def _upload(
    path: str, kind: str, before: bytes, size: int, after: bytes
) -> Callable[[Target], bytes | tuple[bytes, bytes, bytes]]:
    def make(target: Target) -> bytes | tuple[bytes, bytes, bytes]:
        body = bytes(size)
        if size < 65536:
            return target.request("POST", path, before + body + after, kind)
        return target.request("POST", path, before, kind, room=size + len(after)), body, after

    return make


def download(name: str, extra: str = "") -> Callable[[Target], bytes]:
    """A download."""
    return lambda target: target.request("GET", f"/files?path={name}", extra=extra)


def cell(target: Target) -> bytes:
    """``run_code("1")``."""
    return target.request("POST", "/execute", b'{"code":"1"}')


ASKING_FOR_GZIP = "accept-encoding: gzip, deflate\r\n"


def envd_rows(home: Path | None) -> list[Row]:
    """The rows against envd; ``home`` None: without those that need the sandbox's file system."""
    true, login = ("/bin/true",), (*LOGIN, "true")
    echo = (*LOGIN, "echo x")
    rows = [
        Row("GET /health", same(lambda t: t.request("GET", "/health")), 1000, 0),
        Row("unary RPC (Process/List)", unary, 1000, 0),
        Row("Start /bin/true to its end", same(lambda t: t.start(*true)), 200, 2.5, bare=true),
        Row("  8 in flight", in_flight(8, *true), 400, 420, "/s"),
        Row("  32 in flight", in_flight(32, *true), 640, 420, "/s"),
        Row("Start bash -l -c true to its end", same(lambda t: t.start(*login)), 100, 5.0, bare=login),
        Row("  8 in flight", in_flight(8, *login), 200, 280, "/s"),
        Row("  32 in flight", in_flight(32, *login), 320, 280, "/s"),
        Row("start event", first(b'"start"', *true), 200, 1.7),
        Row("first stdout byte (login bash)", first(b'"stdout"', *echo), 100, 5.5, bare=echo),
        Row("SIGKILL to end event", kill_to_end, 100, 1.0, floor=unary),
        Row("PTY echo", pty_echo, 500, 0.6, floor=unary),
        Row("10 MB of stdout", same(lambda t: t.start("/usr/bin/head", "-c", str(OUTPUT), "/dev/zero")), 5, 100),
        Row("POST /files 1 KiB (multipart)", same(multipart(1024, "small")), 300, 0.6),
        Row("GET /files 1 KiB", same(download("small")), 500, 0.5),
        Row("POST /files 100 MiB multipart", same(multipart(SIZE, "big")), 3, 314),
        Row("POST /files 100 MiB octet-stream", same(octets(SIZE, "big")), 3, 522),
        Row("GET /files 100 MiB", same(download("big")), 5, 1000),
        Row("GET /files 100 MiB, accepting gzip", same(download("big", ASKING_FOR_GZIP)), 5, 300),
        Row(
            "ListDir of 1,000 entries", same(lambda t: t.rpc("filesystem.Filesystem/ListDir", {"path": "many"})), 30, 10
        ),
    ]
    if home is not None:
        rows.append(Row("watch event", watch_event(home), 200, 1.0, floor=touch_and_ask(home)))
    return [_sized(row) for row in rows]


def _sized(row: Row) -> Row:
    size = OUTPUT if "10 MB" in row.name else SIZE if "100 MiB" in row.name else 0
    return Row(**{**row.__dict__, "unit": "MB/s", "size": size}) if size else row


__all__ = ["Row", "cell", "envd_rows", "repeat", "same", "start_of"]
