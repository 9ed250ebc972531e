"""The agent's end of the template process: find it or start it, ask it for containers and commands."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from appliance.embedded.node import staging
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.request import PROTOCOL, Exec, ExecEvent, Hello, Request, Spawn, Spawned, Stop

log = logging.getLogger(__name__)
START_TIMEOUT = 60.0
SPAWN_TIMEOUT = 30.0


class TemplateFailed(Exception):
    """The template could not be started, or refused a container; the text says why."""


class TemplateClient:
    """One connection, made again when the template has died."""

    def __init__(self, path: Path, mode: str, build: str, skeleton: Path, log_path: Path) -> None:
        self._path = path
        self._arguments = [str(path), mode, build, str(skeleton)]
        self._build = build
        self._log_path = log_path
        self._socket: socket.socket | None = None
        self._lock = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | None = None

    async def connect(self) -> None:
        """Find the template, or start one. Raises ``TemplateFailed``."""
        async with self._lock:
            await self._connect()

    async def _connect(self) -> None:
        if self._socket is not None:
            return
        hello = await self._try()
        if hello is not None and (hello.protocol, hello.build) != (PROTOCOL, self._build):
            log.info("template process %d is from other code: replaced; its containers go on", hello.pid)
            await self._send(Stop(), [])
            self._drop()
            self._path.unlink(missing_ok=True)
            hello = None
        if hello is None:
            await self._start()

    async def _try(self) -> Hello | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        try:
            connection.connect(str(self._path))
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(connection, 4096), 10.0)
            hello = msgspec.json.decode(data, type=Hello)
        except (OSError, TimeoutError, msgspec.MsgspecError):
            connection.close()
            return None
        self._socket = connection
        return hello

    async def _start(self) -> None:
        """Start the program and wait for its socket, which appears when it is ready."""
        self._path.unlink(missing_ok=True)
        command = [sys.executable, "-m", "appliance.embedded.node.staging", *self._arguments]
        with open(self._log_path, "ab") as output:
            self._child = subprocess.Popen(
                command,
                env=staging.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while await self._try() is None:
            if self._child.poll() is not None or asyncio.get_running_loop().time() > deadline:
                tail = self._log_path.read_text(errors="replace")[-2000:]
                raise TemplateFailed(f"the template process did not start; end of {self._log_path}:\n{tail}")
            await asyncio.sleep(0.02)

    async def _send(self, request: Request, fds: Sequence[int]) -> None:
        assert self._socket is not None
        data = msgspec.json.encode(request)
        deadline = asyncio.get_running_loop().time() + SPAWN_TIMEOUT
        while True:
            try:
                socket.send_fds(self._socket, [data], list(fds))
                return
            except BlockingIOError:
                if asyncio.get_running_loop().time() > deadline:
                    raise TemplateFailed("the template process does not read its socket") from None
                await asyncio.sleep(0.002)

    async def _ask(self, request: Request, fds: Sequence[int]) -> None:
        """Send, with one new connection when the old one is dead."""
        async with self._lock:
            for attempt in (1, 2):
                await self._connect()
                try:
                    await self._send(request, fds)
                    return
                except (BrokenPipeError, ConnectionError):
                    self._drop()
                    if attempt == 2:
                        raise TemplateFailed("the template process ends as soon as it is asked") from None

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._child is not None:
            self._child.poll()

    async def spawn(self, spawn: Spawn, stdout: int, stderr: int) -> ProcessId:
        """Start a container. Raises ``TemplateFailed`` naming the step that failed."""
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine:
            mine.setblocking(False)
            with other:
                await self._ask(spawn, [stdout, stderr, other.fileno()])
            try:
                data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(mine, 8192), SPAWN_TIMEOUT)
            except TimeoutError:
                raise TemplateFailed(f"no answer within {SPAWN_TIMEOUT:.0f} s") from None
        if not data:
            raise TemplateFailed("the container's first process died while it was being built")
        answer = msgspec.json.decode(data, type=Spawned)
        if answer.error:
            raise TemplateFailed(answer.error)
        return ProcessId(answer.pid, answer.start)

    async def execute(self, request: Exec, stdin: int, stdout: int, stderr: int) -> Running:
        """Run a program in a container; its streams are the given descriptors. Raises ``TemplateFailed``."""
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        mine.setblocking(False)
        try:
            with other:
                await self._ask(request, [stdin, stdout, stderr, other.fileno()])
            return await asyncio.wait_for(Running.begin(mine), SPAWN_TIMEOUT)
        except BaseException as error:
            mine.close()
            if isinstance(error, TimeoutError):
                raise TemplateFailed("the program did not start in time") from None
            raise

    async def stop(self) -> None:
        """End the template and wait until it is gone."""
        hello = await self._try() if self._socket is None else None
        if self._socket is None:
            return
        pid = hello.pid if hello is not None else _peer(self._socket)
        process = ProcessId.of(pid)
        await self._send(Stop(), [])
        for _ in range(250):
            if not process.alive():
                break
            await asyncio.sleep(0.02)
        else:
            process.kill(signal.SIGKILL)
        self.close()
        if self._child is not None:
            await asyncio.to_thread(self._child.wait, 5.0)

    def close(self) -> None:
        """Close the connection; the template goes on."""
        self._drop()


def _peer(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int.from_bytes(credentials[:4], sys.byteorder)


class Running:
    """A program started by ``execute``. Closing it kills the program's session."""

    def __init__(self, control: socket.socket, terminal: int) -> None:
        self._control = control
        self.terminal = terminal
        """Master side of the terminal, owned by the caller; -1 without one."""

    @classmethod
    async def begin(cls, control: socket.socket) -> Running:
        """Wait for the first event. Raises ``TemplateFailed``."""
        await _readable(control)
        data, fds, _, _ = socket.recv_fds(control, 8192, 1)
        event = msgspec.json.decode(data, type=ExecEvent) if data else ExecEvent(error="the helper process died")
        if not event.started:
            raise TemplateFailed(event.error)
        return cls(control, fds[0] if fds else -1)

    async def wait(self) -> int:
        """The program's exit status (128 + signal). Raises ``TemplateFailed`` when it was lost."""
        data = await asyncio.get_running_loop().sock_recv(self._control, 8192)
        event = msgspec.json.decode(data, type=ExecEvent) if data else ExecEvent(error="the helper process died")
        if event.code is None:
            raise TemplateFailed(event.error)
        return event.code

    def close(self) -> None:
        """Let go; what still runs is killed."""
        self._control.close()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(connection.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


def null_descriptor() -> int:
    """/dev/null, open for reading and writing."""
    return os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
