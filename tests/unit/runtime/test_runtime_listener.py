"""The end of a listener: what was under way is told so in JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from appliance.runtime.listener import Listener
from appliance.runtime.settings import RuntimeSettings


async def test_an_upload_cut_by_the_end_of_the_runtime_is_answered_in_json() -> None:
    """Half received when the listener stops: the client reads an error body like every other, then the end."""
    begun = asyncio.Event()

    async def upload(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            begun.set()

    listener = Listener(upload, RuntimeSettings(shutdown_timeout=0.01))
    port = await listener.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"POST /files HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        async with asyncio.timeout(60):
            await begun.wait()
            listener.stop_accepting()
            await listener.drain()
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"content-type: application/json" in head
    answer = json.loads(body)
    assert answer["code"] == 503
    assert "stopped" in answer["message"]


@pytest.mark.parametrize(
    "noise",
    [
        b"\x16\x03\x01 hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_told_so_in_json(noise: bytes) -> None:
    """Noise, unknown versions, broken chunks: 400 with the body of every other error, then the end."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    listener = Listener(echo, RuntimeSettings(shutdown_timeout=0.01))
    port = await listener.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(noise)
        async with asyncio.timeout(60):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        listener.stop_accepting()
        await listener.drain()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert f"content-length: {len(body)}".encode() in head
    assert json.loads(body)["code"] == 400


async def test_an_answer_that_has_begun_is_cut_when_the_request_turns_out_broken() -> None:
    """Nothing is written into it that its client would take for content."""
    begun = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        begun.set()
        while (await receive())["type"] != "http.disconnect":
            pass

    listener = Listener(stream, RuntimeSettings(shutdown_timeout=0.01))
    port = await listener.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        said = await reader.readuntil(b"part")
        await begun.wait()
        writer.write(b"zz\r\n")
        async with asyncio.timeout(60):
            said += await reader.read()
    finally:
        writer.close()
        listener.stop_accepting()
        await listener.drain()
    assert said.count(b"HTTP/1.1") == 1
    assert not said.endswith(b"0\r\n\r\n")
