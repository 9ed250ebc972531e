"""One visitor: a flight deck of his own in a process of its own, between its pipes and his WebSocket.

The library starts its application through a shell; here it is started as the program it is, told to die with its
server, and given a moment to end by itself before it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence

from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager

STOP_TIMEOUT = 5.0
"""Seconds a deck gets to end by itself."""


class Session(AppService):
    """The library's service around one process; see ``serve``."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        socket: web.WebSocketResponse,
        downloads: DownloadManager,
    ) -> None:
        async def close() -> None:
            await socket.close()

        super().__init__(
            " ".join(command),
            write_bytes=socket.send_bytes,
            write_str=socket.send_str,
            close=close,
            download_manager=downloads,
        )
        self._argv, self._extra = list(command), dict(environment)

    async def _open_app_process(self, width: int = 80, height: int = 24) -> Process:
        environment = {**self._build_environment(width=width, height=height), **self._extra}
        self._process = await asyncio.create_subprocess_exec(
            *self._argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=environment
        )
        self._stdin = self._process.stdin
        return self._process

    async def end(self) -> None:
        """End the process: ask, wait ``STOP_TIMEOUT``, kill. It is gone when this returns."""
        process = self._process
        if process is None:
            return
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await self.stop()
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
