"""Waiting for a child without a thread: a pidfd in the event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable

_WAIT = Callable[[int | None], None]


class ExitWatch:
    """Calls ``done(wait status)`` in the loop once the child has ended and been reaped; None when its status was lost.

    The pidfd also makes signals safe: a number that was given to another process meanwhile is never hit. Where the
    kernel has no pidfd (some sandboxed kernels) a thread waits instead.
    """

    def __init__(self, pid: int, done: _WAIT) -> None:
        self._pid = pid
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._reaped = False
        self._descriptor: int | None = None
        try:
            self._descriptor = os.pidfd_open(pid)
        except OSError:
            threading.Thread(target=self._wait_in_thread, name=f"wait-{pid}", daemon=True).start()
        else:
            self._loop.add_reader(self._descriptor, self._ready)

    @property
    def pidfd(self) -> int | None:
        """The descriptor that stands for the child, while it lives and where the kernel has such."""
        return self._descriptor

    def _ready(self) -> None:
        status: int | None
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            pid, status = self._pid, None
        if pid:
            self._finish(status)

    def _finish(self, status: int | None) -> None:
        self._reaped = True
        if self._descriptor is not None:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
        self._done(status)

    def _wait_in_thread(self) -> None:
        status: int | None
        try:
            _, status = os.waitpid(self._pid, 0)
        except ChildProcessError:
            status = None
        self._reaped = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._finish, status)

    def send_signal(self, number: int) -> bool:
        """Signal the child; False when it has already been reaped. Raises ``OSError`` when the kernel refuses."""
        if self._reaped:
            return False
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self._pid, number)
        except ProcessLookupError:
            return False
        return True
