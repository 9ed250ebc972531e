"""What both sides of a carried connection have in common, and the server's side."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from ipaddress import IPv4Address
from typing import Protocol, cast

BUFFER = 64 * 1024
"""Bytes kept per direction before reading stops, and read at once."""
_SCRATCH = memoryview(bytearray(BUFFER))
"""What is read is copied or written on before the loop reads again."""


class Reading(asyncio.BufferedProtocol):
    """Bytes as they come, at most ``BUFFER`` at once."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Called by asyncio, and ``buffer_updated`` right after it has read into it."""
        return _SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        """Hand on a copy."""
        self.data_received(bytes(_SCRATCH[:nbytes]))

    def data_received(self, data: bytes) -> None:
        """What was read."""
        raise NotImplementedError


class Near(Protocol):
    """The sandbox's side, as the server's sees it."""

    def write(self, data: bytes) -> None:
        """From the server."""

    def end(self) -> None:
        """The server sends no more."""

    def reading(self, on: bool) -> None:
        """Whether the sandbox's bytes are wanted."""

    def abort(self) -> None:
        """Reset both sides."""


class Far(Reading):
    """The server's side."""

    def __init__(self, near: Near) -> None:
        self._near = near
        self._transport: asyncio.Transport | None = None
        self.ended = False
        """The server sends no more."""
        self.full = False
        """It does not read fast enough just now."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(BUFFER)
        keep_alive(self._transport)

    def data_received(self, data: bytes) -> None:
        """Pass on."""
        self._near.write(data)

    def eof_received(self) -> bool:
        """Pass on; the other direction goes on."""
        self.ended = True
        self._near.end()
        return True

    def pause_writing(self) -> None:
        """The server does not read: stop reading from the sandbox."""
        self.full = True
        self._near.reading(False)

    def resume_writing(self) -> None:
        """It reads again."""
        self.full = False
        self._near.reading(True)

    def reading(self, on: bool) -> None:
        """Whether the server's bytes are wanted."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def write(self, data: bytes) -> None:
        """From the sandbox to the server."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def end(self) -> None:
        """The sandbox sends no more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        """Send what is buffered, then close."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Reset."""
        if self._transport is not None:
            reset(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """A reset is passed on; an orderly end was already."""
        if exc is not None or not self.ended:
            self._near.abort()


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the peer sees an error and not the end of an answer."""
    own = transport.get_extra_info("socket")
    if own is not None and not transport.is_closing():
        with suppress(OSError):
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def keep_alive(transport: asyncio.Transport) -> None:
    """Find a dead peer within some two minutes, however idle the connection is."""
    own = transport.get_extra_info("socket")
    if own.family == socket.AF_UNIX:
        return
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4)):
        own.setsockopt(socket.IPPROTO_TCP, option, value)


def is_local(address: IPv4Address) -> bool:
    """Whether the address is one of this machine's own, on which a sandbox has no business."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(address), 9))  # nothing is sent: only the route is looked up
        except OSError:
            return False  # unreachable: the dial will say so
        return bool(probe.getsockname()[0] == str(address))
