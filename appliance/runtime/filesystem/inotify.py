"""inotify in the event loop, one instance for all watchers of the sandbox.

Kernels allow few inotify instances per user (128) but many watches, so watchers share one. The kernel gives the same
watch to the same directory; here it has any number of listeners, and the kernel's is dropped with the last.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from typing import Final, Protocol

MODIFY: Final = 0x2
ATTRIB: Final = 0x4
MOVED_FROM: Final = 0x40
MOVED_TO: Final = 0x80
CREATE: Final = 0x100
DELETE: Final = 0x200
DELETE_SELF: Final = 0x400
MOVE_SELF: Final = 0x800
OVERFLOW: Final = 0x4000
IGNORED: Final = 0x8000
ISDIR: Final = 0x40000000

_MASK: Final = (
    MODIFY | ATTRIB | MOVED_FROM | MOVED_TO | CREATE | DELETE | DELETE_SELF | MOVE_SELF | 0x01000000
)  # ONLYDIR
_EVENT: Final = struct.Struct("iIII")
_BUFFER: Final = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Listener(Protocol):
    """Whoever wants the events of a watch."""

    def event(self, watch: int, mask: int, name: str) -> None:
        """Something happened to ``name`` in the watched directory (empty: to the directory itself)."""

    def lost(self) -> None:
        """The kernel's queue overflowed: events are missing."""

    def drained(self) -> None:
        """Everything that had happened has been told."""


class Hub:
    """The sandbox's inotify instance, opened with the first watch and closed by ``close``."""

    def __init__(self) -> None:
        self._descriptor = -1
        self._listeners: dict[int, list[Listener]] = {}

    def add(self, path: str, listener: Listener) -> int:
        """Watch the directory ``path``; returns the watch's number. Raises ``OSError`` (ENOSPC: too many watches)."""
        self._open()
        watch = _check(_libc.inotify_add_watch(self._descriptor, os.fsencode(path), _MASK), path)
        listeners = self._listeners.setdefault(watch, [])
        if listener not in listeners:
            listeners.append(listener)
        return watch

    def remove(self, watch: int, listener: Listener) -> None:
        """Stop telling ``listener`` about ``watch``; idempotent."""
        listeners = self._listeners.get(watch, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[watch]
                _libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        """Drop every watch."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        self._listeners.clear()

    def _open(self) -> None:
        if self._descriptor < 0:
            self._descriptor = _check(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
            asyncio.get_running_loop().add_reader(self._descriptor, self._readable)

    def _readable(self) -> None:
        """Read to the end of the queue, then tell everybody that it is the end."""
        touched: list[Listener] = []
        while self._descriptor >= 0:
            try:
                data = os.read(self._descriptor, _BUFFER)
            except BlockingIOError:
                break
            self._dispatch(data, touched)
        for listener in touched:
            listener.drained()

    def _dispatch(self, data: bytes, touched: list[Listener]) -> None:
        at = 0
        while at < len(data):
            watch, mask, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = os.fsdecode(data[at : at + size].rstrip(b"\0"))
            at += size
            if mask & OVERFLOW:
                everyone = {id(each): each for listeners in self._listeners.values() for each in listeners}
                for listener in everyone.values():
                    listener.lost()
                continue
            for listener in list(self._listeners.get(watch, ())):
                listener.event(watch, mask, name)
                if listener not in touched:
                    touched.append(listener)
            if mask & IGNORED:
                self._listeners.pop(watch, None)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
