"""A shell in a sandbox: one exec stream with a terminal, and what is typed on its way there.

The shell lives no longer than the stream: who leaves ``shell`` hangs up. Where the node does so by itself when a stream
closes, that is enough; container runtimes that keep the terminal are asked to, by the process id that the shell told.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import aiohttp

from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.act.inside import RESIZE, STATUS, STDERR, STDIN, STDOUT, channel, output
from tui.model.change import Key

COMMAND: Final = [
    "/bin/sh",
    "-c",
    "printf '\\033_shell %s\\033\\\\' $$; "
    "TERM=xterm-256color; export TERM; command -v bash >/dev/null && exec bash -l; exec sh -l",
]
"""The shell first tells its process id, in an application program command, which means nothing to a terminal."""
TOLD: Final = re.compile(rb"\x1b_shell (\d+)\x1b\\")
HANG_UP: Final = ["/bin/sh", "-c", 'kill -HUP "$1" 2>/dev/null', "sh"]
HANG_UP_TIMEOUT: Final = 3.0
"""Seconds for a hang-up."""
TYPED: Final = 1024 * 1024
"""Bytes typed or pasted that the sandbox has not taken yet; more is refused."""
MESSAGE: Final = 32 * 1024
"""Bytes of one message to the sandbox."""


class Shell:
    """An open shell: ``send`` and ``resize`` never wait, ``output`` is read until the shell ends."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting: deque[bytes] = deque()
        self._size: bytes | None = None
        self._typed = 0
        self._news = asyncio.Event()
        self.ended = False
        """Whether the shell ended by itself."""
        self.pid = ""
        """Of the shell, as the sandbox counts; empty until it told."""

    def send(self, data: bytes) -> bool:
        """Type this; False when the sandbox takes nothing and ``TYPED`` bytes wait already."""
        if self._typed + len(data) > TYPED:
            return False
        self._typed += len(data)
        self._waiting.extend(data[at : at + MESSAGE] for at in range(0, len(data), MESSAGE))
        self._news.set()
        return True

    def resize(self, columns: int, lines: int) -> None:
        """The terminal has another size; only the last one counts."""
        self._size = json.dumps({"Width": columns, "Height": lines}).encode()
        self._news.set()

    async def output(self) -> AsyncIterator[bytes]:
        """What the shell prints, until it ends or the connection does."""
        async for message in self._socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            if message.data[0] == STATUS:
                self.ended = True
                return
            if message.data[0] in (STDOUT, STDERR):
                if not self.pid and (told := TOLD.search(message.data)):
                    self.pid = told[1].decode()
                yield message.data[1:]

    async def carry(self) -> None:
        """Take what waits to the sandbox, until cancelled or the connection is lost."""
        with suppress(ConnectionError):
            while True:
                await self._news.wait()
                self._news.clear()
                if self._size is not None:
                    size, self._size = self._size, None
                    await self._socket.send_bytes(bytes([RESIZE]) + size)
                while self._waiting:
                    data = self._waiting.popleft()
                    await self._socket.send_bytes(bytes([STDIN]) + data)
                    self._typed -= len(data)


@asynccontextmanager
async def shell(cluster: Cluster, key: Key) -> AsyncIterator[Shell]:
    """A login shell in the sandbox, hung up on leaving. Raises KubeError."""
    async with channel(cluster, key, COMMAND, tty=True) as socket:
        made = Shell(socket)
        carrying = asyncio.create_task(made.carry())
        try:
            yield made
        finally:
            carrying.cancel()
            with suppress(asyncio.CancelledError):
                await carrying
            if made.pid and not made.ended:
                await _hang_up(cluster, key, made.pid)


async def _hang_up(cluster: Cluster, key: Key, pid: str) -> None:
    with suppress(errors.KubeError, TimeoutError):
        async with asyncio.timeout(HANG_UP_TIMEOUT):
            await output(cluster, key, [*HANG_UP, pid])
