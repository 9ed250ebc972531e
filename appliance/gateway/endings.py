"""How connections end: whether the last bytes for a client that sends no more have arrived, whether it is still there.

A client that has closed its sending side looks, until something is sent to it, the same as one that is gone. Its system
tells them apart then: bytes for a socket that still reads are acknowledged, bytes for one that was closed are
answered with RST.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Callable
from typing import Final

_TCP_CLOSE: Final = 7
_RST: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, zero seconds."""
_STEP: Final = 0.005
"""Seconds between looks at a socket."""


def dead(sock: socket.socket) -> bool:
    """Whether the connection was reset, or given up by the kernel. True of a closed socket."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:
        return True


def reset_on_close(transport: asyncio.Transport) -> None:
    """Let closing send RST and drop what is unsent."""
    with contextlib.suppress(OSError):  # closed already
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)


class Arrival:
    """What was written last to ``transport`` is awaited; calls ``told`` once: True when the client's system has it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: asyncio.Transport,
        patience: float,
        told: Callable[[bool], None],
    ) -> None:
        """Looks from the next turn of the loop on, for ``patience`` seconds; the transport may be closed meanwhile."""
        self._loop, self._transport, self._told = loop, transport, told
        self._until = loop.time() + patience
        try:
            self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
        except OSError:  # gone already, or no descriptors left: nobody can say that it has arrived
            told(False)
            return
        loop.call_soon(self._look)

    def _look(self) -> None:
        if dead(self._socket) or self._loop.time() > self._until:
            self._end(arrived=False)
        elif self._transport.get_write_buffer_size() or _unacknowledged(self._socket):
            self._loop.call_later(_STEP, self._look)
        else:
            self._end(arrived=not dead(self._socket))

    def _end(self, *, arrived: bool) -> None:
        self._socket.close()
        self._told(arrived)


def _unacknowledged(sock: socket.socket) -> int:
    size: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0]
    return size
