"""The rest of a large request body, read from the socket by worker threads instead of through the parser.

A thread receives into one buffer and writes it to the file while it is still in the processor's cache: no copy, no
allocation and no turn of the event loop per piece. The loop only waits for the socket while it is silent, so a slow
client holds no thread. ``Intake`` belongs to one request: ``fill`` of ``files/target.py`` drives it, the listener makes
it and takes the connection back when it is closed.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import Final

from appliance.runtime.http import Disconnected

WORTH: Final = 512 * 1024
"""Bytes of body still to come from which on this is worth a descriptor and a thread's start."""
_ROOM: Final = 256 * 1024
_TURN: Final = 0.05
"""Seconds a thread works before others get their turn."""
_LULL: Final = 2
"""Milliseconds of silence that a thread waits out; longer ones are the loop's."""

Scan = Callable[[bytearray, int], tuple[int, bool]]
"""How many of the buffer's first ``size`` bytes belong to the file, and whether what follows ends it."""


def everything(_: bytearray, size: int) -> tuple[int, bool]:
    """``Scan`` of a body that is the file."""
    return size, False


class Intake:
    """``left`` bytes of body that nobody has read yet. Not to be used after ``close``."""

    def __init__(self, sock: socket.socket, left: int, release: Callable[[Intake], None]) -> None:
        self._socket = sock
        self._release = release
        self._room = bytearray(_ROOM)
        self._held = 0
        self.left = left
        self.ended = False
        """The scan has found the end of the file; ``leftover`` begins with it."""
        self.gone = False
        """The client closed the connection before the body's end."""

    @property
    def leftover(self) -> bytes:
        """Bytes received that did not go to the file."""
        return bytes(self._room[: self._held])

    @property
    def working(self) -> bool:
        """There is more for the file."""
        return self.left > 0 and not self.ended

    async def readable(self) -> None:
        """Return when there is something to receive: bytes, or the end."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._socket, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._socket)

    def carry(self, scan: Scan, put: Callable[[memoryview], None]) -> None:
        """Hand what arrives to ``put``, until the client pauses, the file ends or others wait. For a worker thread.

        Raises ``Disconnected``, and what ``put`` raises.
        """
        until = time.monotonic() + _TURN
        view = memoryview(self._room)
        while self.working and (count := self._receive(view)):
            self.left -= count
            size = self._held + count
            plain, self.ended = scan(self._room, size)
            self._held = size - plain
            put(view[:plain])
            view[: self._held] = view[plain:size]
            if time.monotonic() > until:
                return

    def _receive(self, view: memoryview) -> int:
        """Bytes received behind what is held; 0 when the client pauses."""
        for last in (False, True):
            try:
                count = self._socket.recv_into(view[self._held :][: self.left])
            except BlockingIOError:
                if last or not _comes(self._socket):
                    return 0
            except OSError:
                count = 0
                break
            else:
                break
        if not count:
            self.gone = True
            raise Disconnected
        return count

    def close(self) -> None:
        """Give the connection back, with the bytes that are left still to be read from it."""
        self._socket.close()
        self._release(self)


def _comes(sock: socket.socket) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(_LULL))
