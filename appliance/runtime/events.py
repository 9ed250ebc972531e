"""The events service: what programs inside find at ``E2B_EVENTS_ADDRESS``, without a token.

``GET /me`` names the sandbox; ``POST /logs`` takes one JSON object, whose ``instanceID`` must be this sandbox's, and
writes it as one line of the container's output. A sandbox of the original service finds both at 192.0.2.1 (and
``events.e2b.local``), served by its host; on a box the node leads that address to this port, so that port 80 inside
stays the user's own. Elsewhere the variable names the port on loopback. Before ``/init`` there is no sandbox to name:
400.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec

from appliance.runtime.http import (
    Disconnected,
    HttpError,
    Receive,
    Request,
    Scope,
    Send,
    respond,
    respond_error,
    respond_json,
)
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState


class EventsApp:
    """The ASGI callable."""

    def __init__(self, settings: RuntimeSettings, state: RuntimeState) -> None:
        self._limit = settings.max_event
        self._state = state
        self._writing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive, send)
        try:
            await self._route(request)
        except Disconnected:
            return
        except HttpError as error:
            await respond_error(send, error)

    async def _route(self, request: Request) -> None:
        wanted = {"/me": "GET", "/logs": "POST"}.get(request.path)
        if wanted is None:
            raise HttpError(404, f"no such path: {request.path}")
        if request.method != wanted:
            raise HttpError(405, f"{request.path} takes {wanted}, not {request.method}")
        sandbox_id = self._state.env.get("E2B_SANDBOX_ID")
        if sandbox_id is None:
            raise HttpError(400, "no sandbox has been delivered here yet")
        if wanted == "GET":
            await respond_json(request.send, 200, {"sandboxID": sandbox_id})
        else:
            line = _line(await request.body(self._limit), sandbox_id)
            async with self._writing:  # one thread at most waits for a reader of the output
                await asyncio.to_thread(_write, line)
            await respond(request.send, 200)


def _line(body: bytes, sandbox_id: str) -> bytes:
    try:
        event = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"Invalid body for logs: expected a JSON object: {error}") from None
    if event.get("instanceID") != sandbox_id:
        raise HttpError(400, f"Invalid sandboxID in logs payload: instanceID: expected {sandbox_id!r}")
    return b"event " + msgspec.json.encode(event) + b"\n"


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
