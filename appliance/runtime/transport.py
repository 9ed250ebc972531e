"""What lies between uvicorn's protocol and the socket: fewer system calls, fewer copies.

* ``Writer``: what is written within one turn of the event loop leaves in one ``send``. A command of a millisecond
  answers head, start, data, end and end of stream in two packets instead of six, and its client wakes as rarely.
* ``Body``: request bodies go to the application in the pieces in which the parser found them; uvicorn would copy each
  three times.
* ``Writer.sendfile``: a cached file goes from the page cache to the socket without passing through us.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

_HOLD: Final = 64 * 1024
"""Bytes held for company; more are written at once, so that back-pressure works as without this class."""
PAUSE: Final = 256 * 1024
"""Bytes of a request body held for an application that does not ask for them."""
_PIECE_COST: Final = 64
"""Bytes that a piece of any size is counted for besides its own: a body may come byte by byte."""


class Writer:
    """The writing half of a transport, gathering small writes; everything else goes straight through."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._held: list[bytes] = []
        self._size = 0

    def write(self, data: bytes) -> None:
        """Send ``data`` soon: at the latest in the next turn of the loop."""
        if not self._held:
            self._loop.call_soon(self.flush)
        self._held.append(data)
        self._size += len(data)
        if self._size >= _HOLD:
            self.flush()

    def flush(self) -> None:
        """Hand over what is held."""
        held, self._held, self._size = self._held, [], 0
        if held and not self._transport.is_closing():
            self._transport.write(held[0] if len(held) == 1 else b"".join(held))

    async def sendfile(self, descriptor: int, offset: int, count: int) -> int:
        """Send a part of a file; returns the bytes sent, fewer than ``count`` only where the file ends.

        Raises ``asyncio.SendfileNotAvailableError`` before anything is sent where the file system has no such call,
        ``OSError`` when the client is gone.
        """
        self.flush()
        return await self._loop.sendfile(self._transport, _File(descriptor), offset, count, fallback=False)  # type: ignore[arg-type]

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once; what is held is lost."""
        self._held.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        """The transport's answer."""
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """The transport's answer."""
        return self._transport.get_extra_info(name, default)


class _File:
    """What ``loop.sendfile`` needs of a file object."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor


class Body:
    """A request body on its way to the application. ``cycle`` and ``flow`` are uvicorn's."""

    def __init__(self, cycle: Any, flow: Any) -> None:
        self._cycle = cycle
        self._flow = flow
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self.received = 0
        """Bytes from the parser until now."""

    @property
    def waiting(self) -> bool:
        """There are pieces that the application has not taken."""
        return bool(self._pieces)

    def feed(self, piece: bytes) -> None:
        """From the parser."""
        self._pieces.append(piece)
        self._size += len(piece) + _PIECE_COST
        self.received += len(piece)
        if self._size >= PAUSE:
            self._flow.pause_reading()
        self._cycle.message_event.set()

    async def receive(self) -> dict[str, Any]:
        """The ASGI callable of the cycle: the next piece, or the disconnect."""
        cycle = self._cycle
        if cycle.waiting_for_100_continue and not cycle.transport.is_closing():
            cycle.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            cycle.waiting_for_100_continue = False
        if not self._pieces and not cycle.disconnected and not cycle.response_complete:
            self._flow.resume_reading()
            await cycle.message_event.wait()
        cycle.message_event.clear()
        if cycle.disconnected or cycle.response_complete:
            return {"type": "http.disconnect"}
        piece = b""
        if self._pieces:
            piece = self._pieces.popleft()
            self._size -= len(piece) + _PIECE_COST
        return {"type": "http.request", "body": piece, "more_body": cycle.more_body or bool(self._pieces)}
