"""Large answers of known length: moved by the kernel, socket to pipe to socket, without passing through our memory.

``splice(2)`` takes a third off the processor time of a proxied byte (0.25 instead of 0.4 s/GB, measured). It works on
duplicates of both descriptors, because the event loop guards the descriptors of its transports; the transport that is
read from stays paused meanwhile, the other one keeps watching for its peer's end. TLS connections and bodies without a
length go the ordinary way; so do uploads, which a relay made slower (350 instead of 600 MB/s into a uvicorn server:
the large steps of the pipe and the server's own pauses get into each other's way).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Callable
from typing import Final

BULK: Final = 1 << 20
"""Bytes still to come from which on a body is worth a relay."""
PIPE: Final = 1 << 20
"""Bytes of the pipe, the relay's only buffer; smaller where the system's limit is."""
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Relay:
    """One body under way. Ends by exactly one call of ``ended``, unless ``close`` comes first."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        source: int,
        sink: int,
        size: int,
        moved: Callable[[int], None],
        ended: Callable[[int, OSError | None, bool], None],
    ) -> None:
        """Move ``size`` bytes from descriptor ``source`` to ``sink``.

        Args:
            moved: Told of every number of bytes that left.
            ended: (bytes not read any more, error, the error is the sink's); 0 and None is success, more and None the
                source's end of file.

        Raises:
            OSError: No descriptors left; nothing was moved.
        """
        self._loop = loop
        self._left = size
        self._held = 0  # bytes in the pipe
        self._moved = moved
        self._ended = ended
        self._fds: list[int] = []
        try:
            self._source = self._own(os.dup(source))
            self._sink = self._own(os.dup(sink))
            self._out, self._in = (self._own(fd) for fd in os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
        except OSError:
            self.close()
            raise
        with contextlib.suppress(OSError):  # beyond the user's limit: the default 64 KiB work too
            fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE)
        loop.add_reader(self._source, self._fill)

    def _own(self, descriptor: int) -> int:
        self._fds.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Let go of everything, at once. Idempotent."""
        fds, self._fds = self._fds, []
        for descriptor in fds:
            self._loop.remove_reader(descriptor)
            self._loop.remove_writer(descriptor)
            os.close(descriptor)

    def _fill(self) -> None:
        """The source is readable and the pipe was empty."""
        try:
            size = os.splice(self._source, self._in, min(self._left, PIPE), flags=_FLAGS)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error, sink=False)
            return
        if size == 0:
            self._end(None, sink=False)
            return
        self._held = size
        self._left -= size
        if not self._flush() and self._fds:
            self._loop.remove_reader(self._source)
            self._loop.add_writer(self._sink, self._drain)

    def _drain(self) -> None:
        """The sink takes bytes again."""
        if self._flush():
            self._loop.remove_writer(self._sink)
            self._loop.add_reader(self._source, self._fill)

    def _flush(self) -> bool:
        """Empty the pipe as far as the sink takes it; True when there is more to read."""
        try:
            while self._held:
                size = os.splice(self._out, self._sink, self._held, flags=_FLAGS)
                self._held -= size
                self._moved(size)
        except BlockingIOError:
            return False
        except OSError as error:
            self._end(error, sink=True)
            return False
        if self._left == 0:
            self._end(None, sink=False)
            return False
        return True

    def _end(self, error: OSError | None, *, sink: bool) -> None:
        self.close()
        self._ended(self._left, error, sink)


def descriptor(transport: asyncio.Transport) -> int | None:
    """The descriptor of a plain, open transport with nothing left to write; None for others."""
    if (
        transport.is_closing()
        or transport.get_write_buffer_size()
        or transport.get_extra_info("sslcontext") is not None
    ):
        return None
    found: int = transport.get_extra_info("socket").fileno()
    return found if found >= 0 else None
