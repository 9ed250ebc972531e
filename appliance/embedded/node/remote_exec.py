"""``kubectl exec`` over a WebSocket: the channel protocol of Kubernetes, versions 4 and 5.

Binary messages begin with a channel byte: 0 stdin, 1 stdout, 2 stderr, 3 status (a JSON Status at the end), 4 resize
(``{"Width","Height"}``), and in version 5 255 followed by the channel that the client closes.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import struct
import termios
from contextlib import suppress

from aiohttp import WSMsgType, web

from appliance.embedded.node.containers import ContainerRunner
from appliance.embedded.node.execution import Executor
from appliance.embedded.node.templateclient import Running, TemplateFailed, null_descriptor

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
_STDIN, _STDOUT, _STDERR, _STATUS, _RESIZE, _CLOSE = 0, 1, 2, 3, 4, 255
_CHUNK = 32 * 1024
_MAX_MESSAGE = 16 * 1024 * 1024


async def serve_exec(request: web.Request, executor: Executor, runner: ContainerRunner) -> web.StreamResponse:
    """One exec, from the upgrade to the status message."""
    command = request.query.getall("command", [])
    if not command:
        raise web.HTTPBadRequest(text="command: expected at least one")
    wants = {name: request.query.get(name, "false") in ("true", "1") for name in ("stdin", "stdout", "stderr", "tty")}
    assert runner.process is not None
    group = runner.means.isolation.group(runner.spec.uid, runner.container.name)
    message = executor.request(runner.process, group, runner.command(command), wants["tty"])
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=_MAX_MESSAGE, heartbeat=30.0)
    await socket.prepare(request)
    session = _Session(socket, wants)
    try:
        running = await executor.start(message, *session.child_ends())
    except TemplateFailed as error:
        session.close()
        await session.status(None, str(error))
    else:
        await session.serve(running)
    await socket.close()
    return socket


class _Session:
    """Descriptors and tasks of one exec."""

    def __init__(self, socket: web.WebSocketResponse, wants: dict[str, bool]) -> None:
        self._socket, self._wants = socket, wants
        self._ours: dict[int, int] = {}
        self._theirs: list[int] = []

    def child_ends(self) -> tuple[int, int, int]:
        """stdin, stdout, stderr for the program: pipes, or /dev/null where nobody asked or a terminal serves."""
        ends = []
        for channel, name in ((_STDIN, "stdin"), (_STDOUT, "stdout"), (_STDERR, "stderr")):
            if self._wants["tty"] or not self._wants[name]:
                ends.append(null_descriptor())
            else:
                read, write = os.pipe2(os.O_CLOEXEC)
                ends.append(read if channel == _STDIN else write)
                self._ours[channel] = write if channel == _STDIN else read
        self._theirs = ends
        return ends[0], ends[1], ends[2]

    def close(self) -> None:
        """Close whatever is still open."""
        for fd in (*self._theirs, *set(self._ours.values())):
            with suppress(OSError):
                os.close(fd)
        self._theirs, self._ours = [], {}

    async def serve(self, running: Running) -> None:
        """Move bytes until the program ends or the client goes; either ends the other."""
        for fd in self._theirs:
            os.close(fd)
        self._theirs = []
        if running.terminal >= 0:
            self._ours = {_STDIN: running.terminal, _STDOUT: running.terminal}
        for fd in self._ours.values():
            os.set_blocking(fd, False)
        pumps = [asyncio.create_task(self._pump(c)) for c in (_STDOUT, _STDERR) if c in self._ours]
        reading = asyncio.create_task(self._read_client())
        ending = asyncio.create_task(running.wait())
        try:
            await asyncio.wait([ending, reading], return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                await asyncio.wait(pumps, timeout=2.0) if pumps else None
                await self._report(ending)
        finally:
            for task in (*pumps, reading, ending):
                task.cancel()
            await asyncio.gather(*pumps, reading, ending, return_exceptions=True)
            running.close()
            self.close()

    async def _report(self, ending: asyncio.Task[int]) -> None:
        error = ending.exception()
        await self.status(None, str(error)) if error else await self.status(ending.result(), "")

    async def status(self, code: int | None, message: str) -> None:
        """The final Status object on channel 3."""
        body: dict[str, object] = {"metadata": {}, "status": "Success"}
        if code is None:
            body |= {"status": "Failure", "reason": "InternalError", "message": message, "code": 500}
        elif code:
            cause = {"reason": "ExitCode", "message": str(code)}
            text = f"command terminated with non-zero exit code: exit status {code}"
            body |= {"status": "Failure", "reason": "NonZeroExitCode", "message": text, "details": {"causes": [cause]}}
        with suppress(ConnectionError, RuntimeError):
            await self._socket.send_bytes(bytes([_STATUS]) + json.dumps(body).encode())

    async def _pump(self, channel: int) -> None:
        """Program to client; waiting for the client is what slows the program down."""
        fd = self._ours[channel]
        while True:
            await _ready(fd, write=False)
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                continue
            except OSError:  # EIO: the terminal's other side is closed
                return
            if not data:
                return
            await self._socket.send_bytes(bytes([channel]) + data)

    async def _read_client(self) -> None:
        """Client to program, until the client goes away."""
        async for message in self._socket:
            if message.type != WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == _STDIN and _STDIN in self._ours:
                await self._write(data)
            elif channel == _RESIZE:
                self._resize(data)
            elif channel == _CLOSE and data[:1] == bytes([_STDIN]):
                await self._end_input()

    async def _write(self, data: bytes) -> None:
        fd = self._ours[_STDIN]
        while data:
            try:
                data = data[os.write(fd, data) :]
            except BlockingIOError:
                await _ready(fd, write=True)
            except OSError:
                return

    async def _end_input(self) -> None:
        if self._wants["tty"]:
            await self._write(b"\x04")
        elif _STDIN in self._ours:
            os.close(self._ours.pop(_STDIN))

    def _resize(self, data: bytes) -> None:
        with suppress(ValueError, KeyError, OSError):
            size = json.loads(data)
            if self._wants["tty"] and _STDIN in self._ours:
                packed = struct.pack("HHHH", int(size["Height"]), int(size["Width"]), 0, 0)
                fcntl.ioctl(self._ours[_STDIN], termios.TIOCSWINSZ, packed)


async def _ready(fd: int, *, write: bool) -> None:
    """Until the descriptor can be read (or written), watched through a copy: a terminal is one number for both."""
    loop = asyncio.get_running_loop()
    copy = os.dup(fd)
    ready = loop.create_future()
    add, remove = (loop.add_writer, loop.remove_writer) if write else (loop.add_reader, loop.remove_reader)
    add(copy, lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove(copy)
        os.close(copy)
