"""Writing to a process's stdin or terminal."""

from __future__ import annotations

import asyncio
import contextlib
import os


class InputClosed(Exception):
    """There is nobody to write to."""


class Input:
    """Serialised, waiting writes to a non-blocking descriptor.

    A write waits as long as the process does not read; the caller bounds it with its own deadline, and a cancelled
    write leaves at most a prefix written. ``owned`` says whether closing closes the descriptor (a terminal's belongs
    to its ``Output``).
    """

    def __init__(self, descriptor: int, *, owned: bool) -> None:
        self._descriptor = descriptor
        self._owned = owned
        self._lock = asyncio.Lock()
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False

    @property
    def descriptor(self) -> int:
        """The open descriptor. Raises ``InputClosed``."""
        if self.closed:
            raise InputClosed
        return self._descriptor

    async def write(self, data: bytes) -> None:
        """Write all of ``data``. Raises ``InputClosed`` when the other end is gone."""
        rest = memoryview(data)
        async with self._lock:
            while rest:
                try:
                    rest = rest[os.write(self.descriptor, rest) :]
                except BlockingIOError:
                    await self._writable()
                except OSError:
                    raise InputClosed from None

    async def _writable(self) -> None:
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        # A duplicate, because a terminal's descriptor is registered for reading and the loop keys by number.
        watched = os.dup(self._descriptor)
        loop.add_writer(watched, _wake, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            loop.remove_writer(watched)
            os.close(watched)

    def close(self) -> None:
        """End of input; idempotent. A waiting write fails with ``InputClosed``."""
        if self.closed:
            return
        self.closed = True
        if self._waiter is not None:
            _wake(self._waiter)
        if self._owned:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
