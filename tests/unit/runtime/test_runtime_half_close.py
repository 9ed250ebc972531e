"""Clients that close their sending side after a request: answered if they still read, noticed if they do not."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest


def call(path: str, body: bytes, *fields: str) -> bytes:
    """A whole request."""
    own = ("Host: a", f"Content-Length: {len(body)}", *fields)
    return "\r\n".join([f"POST {path} HTTP/1.1", *own, "", ""]).encode() + body


def start(envd: Any, script: str) -> bytes:
    """A ``Start`` of a shell script."""
    config = {"process": {"cmd": "/bin/sh", "args": ["-c", script]}}
    return call("/process.Process/Start", envd.frame(config), "Content-Type: application/connect+json")


async def connect(envd: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the runtime."""
    return await asyncio.open_connection("127.0.0.1", envd.runtime.ports["envd"])


async def test_a_start_goes_on_to_its_end(envd, home):
    """Output that comes long after the half close arrives, then the end of stream and of the connection; a keepalive
    is what asked whether anybody reads.
    """
    go = home / "go"
    reader, writer = await connect(envd)
    writer.write(start(envd, f"while [ ! -e {go} ]; do sleep 0.01; done; echo late"))
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write_eof()
    said = await reader.readuntil(b'"keepalive"')
    go.touch()
    async with asyncio.timeout(20):
        said += await reader.read()
    writer.close()
    assert head.startswith(b"HTTP/1.1 200 ")
    assert base64.b64encode(b"late\n") in said and b'"end"' in said
    assert said.endswith(b"\0\0\0\2{}\r\n0\r\n\r\n")


async def test_requests_sent_ahead_are_all_served(envd, home):
    """An upload and a question about it in one go, then the half close: both answers, then the end."""
    upload = call("/files?path=here", b"content", "Content-Type: application/octet-stream")
    reader, writer = await connect(envd)
    stat = call("/filesystem.Filesystem/Stat", b'{"path": "here"}', "Content-Type: application/json")
    writer.write(upload + stat)
    writer.write_eof()
    async with asyncio.timeout(20):
        said = await reader.read()
    writer.close()
    assert said.count(b"HTTP/1.1 200 OK") == 2
    assert json.loads(said.rpartition(b"\r\n\r\n")[2])["entry"]["size"] == "7"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/process.Process/Start", {"process": {"cmd": "sleep", "args": ["1000"]}}),
        ("/filesystem.Filesystem/WatchDir", {"path": "/"}),
    ],
)
async def test_who_closed_is_noticed_in_a_silent_stream(envd, path, body):
    """A client that closed both sides at once leaves no listener; the process lives on."""
    listener = envd.runtime._listeners[-1]
    reader, writer = await connect(envd)
    writer.write(call(path, envd.frame(body), "Content-Type: application/connect+json"))
    await reader.readuntil(b'"start"')
    writer.close()
    async with asyncio.timeout(20):
        while listener._state.connections or listener._state.tasks:
            await asyncio.sleep(0.01)
    processes = (await envd.rpc("process.Process/List", {})).json().get("processes", [])
    assert len(processes) == path.endswith("Start")
    for process in processes:
        await envd.rpc("process.Process/SendSignal", {"process": {"pid": process["pid"]}, "signal": "SIGNAL_SIGKILL"})


async def test_half_a_request_is_none(envd, home):
    """The end in the middle of a body: no answer, no file, no connection."""
    reader, writer = await connect(envd)
    whole = call("/files?path=cut", b"x" * 1000, "Content-Type: application/octet-stream")
    writer.write(whole[:-1])
    writer.write_eof()
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()
