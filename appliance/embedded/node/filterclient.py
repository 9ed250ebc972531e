"""The agent's end of the filter process: find it or start it, tell it policies, notice when it is gone."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import msgspec

from appliance.api.egress import Egress
from appliance.api.header_rules import HeaderRules
from appliance.embedded.filter.control import PROTOCOL, Done, Hello, Set
from appliance.embedded.node import staging
from appliance.embedded.node.process_ids import ProcessId

log = logging.getLogger(__name__)
START_TIMEOUT = 30.0
ANSWER_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
T = TypeVar("T")


class FilterFailed(OSError):
    """The filter could not be started or does not answer; the text says why."""


class FilterClient:
    """One connection at a time; calls must not overlap."""

    def __init__(self, path: Path, address: str, resolv_conf: Path, build: str, log_path: Path) -> None:
        """``address``: of the bridge, where the filter listens. ``build`` changes with the code."""
        self._path, self._build, self._log_path = path, build, log_path
        self._arguments = [str(path), address, str(resolv_conf), build]
        self._line: _Line | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._process: ProcessId | None = None
        self._lost = asyncio.Event()

    @property
    def connected(self) -> bool:
        """Whether a filter is there."""
        return self._line is not None

    async def lost(self) -> None:
        """Wait until a filter that was there is gone; at once while it is not back."""
        await self._lost.wait()

    def forget(self) -> None:
        """Nobody needs the one that is gone: ``lost`` waits for the next."""
        self._lost.clear()

    async def find(self) -> Hello | None:
        """A filter that runs; one of other code is ended, with its connections, and counts as none."""
        hello = await self._connect()
        if hello is not None and (hello.protocol, hello.build) != (PROTOCOL, self._build):
            log.info("filter process %d is from other code: replaced", hello.pid)
            await self.stop()
            return None
        return hello

    async def _connect(self) -> Hello | None:
        loop = asyncio.get_running_loop()
        try:
            _, line = await loop.create_unix_connection(lambda: _Line(self._hung_up), str(self._path))
        except OSError:
            return None
        try:
            hello = await line.receive(Hello)
            self._process = ProcessId.of(hello.pid)
        except (OSError, TimeoutError, msgspec.MsgspecError):
            line.close()
            return None
        self._line = line
        self._lost.clear()
        return hello

    def _hung_up(self, line: _Line) -> None:
        if line is self._line:
            self._line = None
            self._lost.set()

    async def start(self) -> Hello:
        """Start the program and wait for its socket; one that answers no more is ended. Raises ``FilterFailed``."""
        if self._process is not None:
            self._process.kill(signal.SIGKILL)
        self._path.unlink(missing_ok=True)
        if self._child is not None:
            self._child.poll()
        command = [sys.executable, "-P", "-s", "-m", "appliance.embedded.filter.main", *self._arguments]
        with open(self._log_path, "ab") as output:
            self._child = subprocess.Popen(
                command,
                env=staging.environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT
        while (hello := await self._connect()) is None:
            if self._child.poll() is not None or asyncio.get_running_loop().time() > deadline:
                tail = self._log_path.read_text(errors="replace")[-2000:]
                raise FilterFailed(f"the filter process did not start; end of {self._log_path}:\n{tail}")
            await asyncio.sleep(0.02)
        return hello

    async def set(self, address: str, egress: Egress | None, rules: HeaderRules | None = None) -> Done:
        """Tell one policy; returns when it is in force. Raises ``FilterFailed``."""
        line = self._line
        if line is None:
            raise FilterFailed("the filter process is gone")
        try:
            line.send(Set(address, egress, rules))
            return await line.receive(Done)
        except (OSError, TimeoutError, msgspec.MsgspecError) as error:
            line.close()
            self._hung_up(line)
            raise FilterFailed(f"the filter process does not answer: {error}") from None

    async def stop(self) -> None:
        """End the filter and wait until it is gone; one that was not found yet is looked for."""
        if self._line is None and await self._connect() is None:
            if self._child is not None:
                self._child.poll()
            return
        line, process = self._line, self._process
        assert line is not None and process is not None
        self._line = None
        line.close()
        process.kill(signal.SIGTERM)
        deadline = asyncio.get_running_loop().time() + STOP_TIMEOUT
        while process.alive() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        process.kill(signal.SIGKILL)
        if self._child is not None:
            await asyncio.to_thread(self._child.wait, STOP_TIMEOUT)


class _Line(asyncio.Protocol):
    """Lines of JSON; an empty one stands for the end."""

    def __init__(self, hung_up: Callable[[_Line], None]) -> None:
        self._hung_up = hung_up
        self._buffer = bytearray()
        self._lines: asyncio.Queue[bytes] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Complete lines are kept for ``receive``."""
        *lines, rest = (bytes(self._buffer) + data).split(b"\n")
        self._buffer[:] = rest
        for line in lines:
            self._lines.put_nowait(line)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told."""
        self._lines.put_nowait(b"")
        self._hung_up(self)

    def send(self, message: Set) -> None:
        """One line."""
        assert self._transport is not None
        self._transport.write(msgspec.json.encode(message) + b"\n")

    async def receive(self, kind: type[T]) -> T:
        """The next line. Raises ``TimeoutError``, ``ConnectionError``, ``msgspec.MsgspecError``."""
        async with asyncio.timeout(ANSWER_TIMEOUT):
            line = await self._lines.get()
        if not line:
            raise ConnectionResetError("it hung up")
        return msgspec.json.decode(line, type=kind)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()
