"""Output of containers: named pipes read by the agent, written as one line per line with time and stream, bounded.

A container holds its pipe open for reading and writing, so an agent that dies does not break it: output waits in the
pipe (1 MiB, then the writer blocks) for the next agent. A file that reaches its limit becomes ``.1``; there are
never more.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

LIMIT = 10 * 1024 * 1024
"""Bytes of one log file."""
_CHUNK = 65_536
_LINE = 16_384
_PAUSE = 0.05
"""Seconds between full chunks of one pipe: at most 1.3 MB/s per stream, so that no sandbox takes the box's CPU."""
_SET_PIPE_SIZE = 1031


class LogWriter:
    """One container's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rests: dict[str, bytes] = {}

    def rotate(self) -> None:
        """Begin a new run: the old file becomes ``.previous``."""
        with suppress(FileNotFoundError):
            os.replace(self.path, f"{self.path}.previous")
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}.1")

    def write(self, stream: str, data: bytes) -> None:
        """Append complete lines; the rest waits for its end (or for 16 KiB)."""
        text = self._rests.pop(stream, b"") + data
        *lines, rest = text.split(b"\n")
        if len(rest) > _LINE:
            lines, rest = [*lines, rest], b""
        if rest:
            self._rests[stream] = rest
        if lines:
            self._append(stream, lines)

    def flush(self) -> None:
        """Write incomplete last lines."""
        for stream, rest in self._rests.items():
            self._append(stream, [rest])
        self._rests.clear()

    def _append(self, stream: str, lines: list[bytes]) -> None:
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")
        head = f"{now} {stream} F ".encode()
        with suppress(OSError), open(self.path, "ab") as file:  # a full box must not end the agent
            file.write(b"".join(head + line + b"\n" for line in lines))
            size = file.tell()
            if size > LIMIT:
                os.replace(self.path, f"{self.path}.1")


class Pipe:
    """One stream of one container."""

    def __init__(self, path: Path, stream: str, writer: LogWriter) -> None:
        self._path = path
        self._stream = stream
        self._writer = writer
        self._fd = -1
        self._timer: asyncio.TimerHandle | None = None

    def open(self, owner: int) -> int:
        """Begin reading; returns the container's descriptor (closed by the caller). ``owner``: uid that may reopen."""
        if not self._path.exists():
            os.mkfifo(self._path, 0o600)
        os.chown(self._path, owner, owner) if os.geteuid() == 0 else None
        self._fd = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with suppress(OSError):
            fcntl.fcntl(self._fd, _SET_PIPE_SIZE, 1024 * 1024)
        asyncio.get_running_loop().add_reader(self._fd, self._read)
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC)

    def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        self._writer.write(self._stream, data)
        if len(data) == _CHUNK:
            loop.remove_reader(self._fd)
            self._timer = loop.call_later(_PAUSE, lambda: loop.add_reader(self._fd, self._read))

    def close(self) -> None:
        """Take what is left, then stop reading."""
        if self._fd < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._fd)
        with suppress(BlockingIOError):
            self._writer.write(self._stream, os.read(self._fd, 16 * _CHUNK))
        os.close(self._fd)
        self._fd = -1
        self._writer.flush()
