"""Reading one output of a process in the event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

PIPE_CHUNK: Final = 32 * 1024
"""Largest piece of stdout or stderr in one event."""
PTY_CHUNK: Final = 16 * 1024


class Output:
    """Calls ``publish(name, data)`` for what is read and ``closed()`` at the end; owns and closes the descriptor.

    ``publish`` answers whether there is room; without it reading stops until ``resume``. So a slow listener finally
    blocks the process in its write, which is the back-pressure.
    """

    def __init__(
        self, descriptor: int, name: str, publish: Callable[[str, bytes], bool], closed: Callable[[], None]
    ) -> None:
        self.descriptor = descriptor
        self.at_end = False
        self.paused = False
        self._name = name
        self._chunk = PTY_CHUNK if name == "pty" else PIPE_CHUNK
        self._publish = publish
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._ready)

    def _ready(self) -> None:
        if not self._read():
            return
        if self.at_end:
            self._closed()

    def _read(self) -> bool:
        """One read; False when nothing was there."""
        try:
            data = os.read(self.descriptor, self._chunk)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose last user is gone answers EIO: that is its end
        if data:
            if not self._publish(self._name, data):
                self._pause()
        else:
            self._end()
        return True

    def drain(self) -> None:
        """Publish what is readable right now without calling ``closed``; at most one pipe's worth."""
        for _ in range(64):
            if self.at_end or not self._read():
                return

    def _pause(self) -> None:
        if not self.paused:
            self.paused = True
            self._loop.remove_reader(self.descriptor)

    def resume(self) -> None:
        """There is room again."""
        if self.paused and not self.at_end:
            self.paused = False
            self._loop.add_reader(self.descriptor, self._ready)

    def _end(self) -> None:
        self.at_end = True
        self._loop.remove_reader(self.descriptor)
        os.close(self.descriptor)
