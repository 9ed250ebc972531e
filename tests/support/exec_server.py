"""The exec endpoint of a cluster, served by programs of this machine on real pseudo-terminals."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import signal
import struct
import termios
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from appliance.config import KubeSettings

ENVIRONMENT = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", "PS1": "$ ", "LC_ALL": "C.UTF-8"}
"""Nothing else, least of all LINES and COLUMNS, which programs believe more than their terminal."""


class ExecServer:
    """Runs ``program`` in place of the shell that is asked for, and commands without a terminal as they are.

    ``keeps``: as some container runtimes do, a closed stream leaves its terminal, and the shell, as they are.
    """

    def __init__(self, program: Sequence[str] = (), status: int = 101, *, keeps: bool = False) -> None:
        self.program = list(program)
        self.keeps = keeps
        self.status = status
        """101 to serve, anything else to refuse with."""
        self.asked: list[list[str]] = []
        self.sizes: list[tuple[int, int]] = []
        self.pids: list[int] = []
        self.kept: list[int] = []
        self._running: set[int] = set()
        self.ended = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One exec with a terminal: hangs up when the client goes."""
        self.asked.append(request.query.getall("command"))
        if self.status != 101:
            return web.json_response({"kind": "Status", "message": "no"}, status=self.status, reason="no exec for you")
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        if request.query["tty"] != "true":
            done = await asyncio.create_subprocess_exec(*self.asked[-1], stdin=DEVNULL, stdout=PIPE, stderr=PIPE)
            await self._end(socket, b"".join(await done.communicate()))
            return socket
        program = self.program or self.asked[-1]
        pid, terminal = os.forkpty()
        if pid == 0:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
            os.execvpe(program[0], program, ENVIRONMENT)
        self.pids.append(pid)
        self._running.add(pid)
        os.set_blocking(terminal, False)
        pumping = asyncio.create_task(self._pump(terminal, socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    self._take(terminal, message.data[0], message.data[1:])
        finally:  # also when the client is gone and the handler is cancelled
            pumping.cancel()
            asyncio.get_running_loop().remove_reader(terminal)
            if self.keeps:
                self.kept.append(terminal)
            else:
                os.close(terminal)  # the last descriptor of the terminal: the kernel hangs up
            reaping = asyncio.get_running_loop().run_in_executor(None, os.waitpid, pid, 0)
            reaping.add_done_callback(lambda done: self._reaped(pid))
        return socket

    def _reaped(self, pid: int) -> None:
        self._running.discard(pid)
        self.ended.set()

    def kill(self) -> None:
        """End what still runs."""
        for pid in self._running:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)

    async def _end(self, socket: web.WebSocketResponse, last: bytes) -> None:
        await socket.send_bytes(b"\x01" + last)
        await socket.send_bytes(b"\x03" + json.dumps({"status": "Success"}).encode())
        await socket.close()

    def _take(self, terminal: int, channel: int, data: bytes) -> None:
        if channel == 0:
            os.write(terminal, data)
        elif channel == 4:
            size = json.loads(data)
            self.sizes.append((size["Width"], size["Height"]))
            fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", size["Height"], size["Width"], 0, 0))

    async def _pump(self, terminal: int, socket: web.WebSocketResponse) -> None:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(terminal, readable.set)
        try:
            while data := await self._read(terminal, readable):
                await socket.send_bytes(b"\x01" + data)
        finally:
            loop.remove_reader(terminal)
        await self._end(socket, b"")

    async def _read(self, terminal: int, readable: asyncio.Event) -> bytes:
        """The next output; empty at the end."""
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                try:
                    return os.read(terminal, 65536)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    return b""


@asynccontextmanager
async def exec_server(server: ExecServer, place: Path) -> AsyncIterator[KubeSettings]:
    """The settings of a cluster whose exec endpoint is that server."""
    app = web.Application()
    app.router.add_get("/{path:.*}", server.serve)
    async with TestServer(app) as listening:
        config = place / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": str(listening.make_url("/")).rstrip("/")}}
        context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
        document = {"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster]}
        user = {"name": "u", "user": {"token": "t"}}
        config.write_text(json.dumps({**document, "contexts": [context], "users": [user]}))
        try:
            yield KubeSettings(kubeconfig=config)
        finally:
            server.kill()
