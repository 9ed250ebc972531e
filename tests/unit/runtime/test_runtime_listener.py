"""The end of a listener: what was under way is told so in JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

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
