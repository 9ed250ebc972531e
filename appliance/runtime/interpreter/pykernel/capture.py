"""Output that bypasses Python: what C code and child processes write to descriptors 1 and 2.

Both descriptors become pipes that one thread reads and writes to the kernel's streams. ``drain()`` makes the order
certain: after it returns, everything written before the call is in the streams, so it is sent before the cell's end.
A child process that outlives its cell keeps its pipe and its output shows up in a later cell, as in any notebook.
"""

from __future__ import annotations

import codecs
import os
import select
import threading
from collections.abc import Callable
from typing import Final, TextIO

_CHUNK: Final = 64 * 1024
_DRAIN_TIMEOUT: Final = 2.0
"""Seconds a cell's end waits for its output when a child process writes without pause."""


class DescriptorCapture:
    """Replaces descriptors 0 (by nothing), 1 and 2 (by pipes) of this process, for good."""

    def __init__(self) -> None:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, 0)
        os.close(null)
        self._readers: list[int] = []
        for target in (1, 2):
            read, write = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(read, False)
            os.dup2(write, target)  # dup2 clears close-on-exec: children inherit it
            os.close(write)
            self._readers.append(read)
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._drained = threading.Event()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in self._readers]
        self._streams: Callable[[], tuple[TextIO, TextIO]] | None = None

    def start(self, streams: Callable[[], tuple[TextIO, TextIO]]) -> None:
        """Read from now on into ``streams()``: standard output and standard error, asked for at each write."""
        self._streams = streams
        threading.Thread(target=self._run, name="Descriptors", daemon=True).start()

    def drain(self) -> None:
        """Wait until what is in the pipes has been written to the streams; at most ``_DRAIN_TIMEOUT`` seconds.

        Does nothing in a fork, which has no reading thread.
        """
        if os.getpid() != self._pid or not self._pending():
            return
        with self._lock:
            self._drained.clear()
            os.write(self._wake_write, b"d")
            self._drained.wait(_DRAIN_TIMEOUT)

    def _pending(self) -> bool:
        # The thread may hold a chunk it has read and not written yet: then busy is set.
        poll = select.poll()
        for fd in self._readers:
            poll.register(fd, select.POLLIN)
        return self._busy or bool(poll.poll(0))

    _busy = False

    def _run(self) -> None:
        poll = select.poll()
        for fd in (*self._readers, self._wake_read):
            poll.register(fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            # Taken before reading: whoever asked has written before, so this pass sees it.
            asked = self._wake_read in ready and bool(os.read(self._wake_read, 64))
            self._busy = True
            for index, fd in enumerate(self._readers):
                self._forward(index, fd)
            self._busy = False
            if asked:
                self._drained.set()

    def _forward(self, index: int, fd: int) -> None:
        while True:
            try:
                data = os.read(fd, _CHUNK)
            except BlockingIOError:
                return
            if text := self._decoders[index].decode(data):
                self._write(index, text)
            if len(data) < _CHUNK:
                return

    def _write(self, index: int, text: str) -> None:
        assert self._streams is not None
        try:
            self._streams()[index].write(text)
        except Exception:
            # A cell replaced sys.stdout by something broken; its children's output has nowhere to go.
            return
