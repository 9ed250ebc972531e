"""The loopback tunnel: how the gateway reaches servers that listen on 127.0.0.1 or ::1 inside the sandbox.

One line of JSON ``{"port": N, "token": "..."}`` is answered with ``ok``, ``refused`` or ``denied``; after ``ok`` the
connection is spliced to the port, both directions with back-pressure and half-close. The token is the access token;
it is asked for only once one is set.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import msgspec

from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState

_MAX_LINE: Final = 4096
_PIECE: Final = 256 * 1024
_ADDRESSES: Final = ("127.0.0.1", "::1")


class _Request(msgspec.Struct):
    port: int
    token: str | None = None


class Tunnel:
    """The listener's state."""

    def __init__(self, settings: RuntimeSettings, state: RuntimeState) -> None:
        self._settings = settings
        self._state = state
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises ``OSError``."""
        self._server = await asyncio.start_server(self._accept, host, port, limit=_MAX_LINE)
        number: int = self._server.sockets[0].getsockname()[1]
        return number

    async def close(self) -> None:
        """Stop listening and end every tunnel."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= self._settings.max_tunnels:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            opened = await self._open(reader)
            if isinstance(opened, bytes):
                writer.write(opened)
                await writer.drain()
                return
            far_reader, far_writer = opened
            try:
                writer.write(b"ok\n")
                await _splice(reader, writer, far_reader, far_writer)
            finally:
                far_writer.transport.abort()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def _open(self, reader: asyncio.StreamReader) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | bytes:
        """The connection inside, or the line that says why there is none."""
        async with asyncio.timeout(self._settings.tunnel_timeout):
            line = await reader.readuntil(b"\n")
        try:
            wanted = msgspec.json.decode(line, type=_Request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return b"denied\n"
        guarded = self._state.access_token is not None or self._state.sealed is not None
        if guarded and not self._state.token_matches(wanted.token):
            return b"denied\n"
        if not 0 < wanted.port < 65536:
            return b"refused\n"
        for address in _ADDRESSES:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._settings.tunnel_timeout):
                    return await asyncio.open_connection(address, wanted.port, limit=_PIECE)
        return b"refused\n"


async def _splice(
    near_reader: asyncio.StreamReader,
    near_writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Both directions until both have ended, or one has broken."""
    async with asyncio.TaskGroup() as both:
        both.create_task(_pump(near_reader, far_writer))
        both.create_task(_pump(far_reader, near_writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
