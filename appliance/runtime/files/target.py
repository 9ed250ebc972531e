"""The file an upload writes: opened, given to the user, then filled.

Order matters to watchers: a new file must show exactly CREATE, CHMOD (the change of owner) and, for a small body, one
WRITE. So ownership comes before data, and data is gathered to ``FLUSH`` bytes before it is written. Larger bodies are
written by a worker thread while the next bytes arrive; two buffers are all the memory an upload of any size uses.

An existing file is cut when its first new bytes are written, to their length, and not to nothing when it is opened.
From the first byte on it holds what was sent and no more, as after ``O_TRUNC``; but an upload that ends before leaves
the old file whole, and ext4 does not take the file for one that is being replaced: it would send it to the disk at the
close, and the next upload would wait for the disk (0.3 ms of 1 KiB, half the time of 100 MiB).
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from appliance.runtime.files.metadata import replace_metadata
from appliance.runtime.filesystem.directories import give, make_parents
from appliance.runtime.filesystem.failures import rest_error
from appliance.runtime.filesystem.magic import on_overlay
from appliance.runtime.http import HttpError
from appliance.runtime.intake import Intake, Scan, everything
from appliance.runtime.users import User

FLUSH: Final = 1024 * 1024
_MAX_PIECES: Final = 512
"""Pieces in one write; Linux takes at most 1,024."""


class Target:
    """One destination. Use ``open``, ``write``…, ``finish``; ``abandon`` in every case at the end."""

    def __init__(self, path: str, descriptor: int, *, replaces: bool) -> None:
        self.path = path
        self._descriptor = descriptor
        self._replaces = replaces
        """The file has an old content, which goes when the first new bytes are written."""
        self._pieces: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    @classmethod
    def open(cls, path: str, user: User, metadata: Mapping[str, str], size: int = 0) -> Target:
        """Create or open ``path``; missing parents are made. ``size``: bytes announced, 0 when unknown.

        Raises ``HttpError`` 400, 403, 500, 507.
        """
        try:
            old = _destination(path)
            if size:
                _check_space(path, size, old)
            if old is None:
                make_parents(path, user)
            # O_NONBLOCK: a named pipe without a reader must fail, not hang the runtime.
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            replaces = old is not None and stat.S_ISREG(old.st_mode)
            if old is not None and old.st_size > FLUSH and on_overlay(path):
                flags |= os.O_TRUNC  # or the kernel might first copy the old content up from a lower layer
                replaces = False
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise rest_error(error, path) from None
        try:
            give(descriptor, user)
            replace_metadata(descriptor, metadata, existed=old is not None)
        except OSError as error:
            os.close(descriptor)
            raise rest_error(error, path) from None
        return cls(path, descriptor, replaces=replaces)

    async def write(self, data: bytes) -> None:
        """Add ``data``; waits for the disk when a whole buffer is ahead of it. Raises ``HttpError``."""
        self._pieces.append(data)
        self._size += len(data)
        if len(self._pieces) >= _MAX_PIECES:
            self._pieces = [b"".join(self._pieces)]  # a body in many small pieces is still one write
        if self._size >= FLUSH:
            await self._settle()
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(None, self._writer(), self._descriptor, self._take())

    async def fill(self, intake: Intake, scan: Scan = everything) -> None:
        """Add what ``intake`` brings, until the file's end in it; closes it. Raises ``HttpError``, ``Disconnected``."""
        loop = asyncio.get_running_loop()
        try:
            await self._settle()
            if self._pieces:
                self._writing = loop.run_in_executor(None, self._put, self._take())
                await self._settle()
            while intake.working:
                await intake.readable()
                self._writing = loop.run_in_executor(None, intake.carry, scan, self._put_view)
                await self._settle()
        finally:
            if self._writing is None or self._writing.done():
                intake.close()
            else:  # cancelled: the thread is still using it
                intake.gone = True
                self._writing.add_done_callback(lambda _: intake.close())

    def _put_view(self, view: memoryview) -> None:
        self._put([view])

    def _put(self, pieces: Sequence[bytes | memoryview]) -> None:
        if any(pieces):
            self._writer()(self._descriptor, pieces)

    def _writer(self) -> Callable[[int, Sequence[bytes | memoryview]], None]:
        replaces, self._replaces = self._replaces, False
        return _replace if replaces else _write_all

    def _take(self) -> list[bytes]:
        pieces, self._pieces, self._size = self._pieces, [], 0
        return pieces

    async def finish(self) -> None:
        """Write what is left. Raises ``HttpError`` 507 when the disk is full."""
        await self._settle()
        try:
            self._writer()(self._descriptor, self._take())
        except OSError as error:
            raise rest_error(error, self.path) from None

    async def _settle(self) -> None:
        """Wait for the write in flight. It is shielded: the descriptor must not close under a thread."""
        if self._writing is None:
            return
        try:
            await asyncio.shield(self._writing)
        except OSError as error:
            self._writing = None
            raise rest_error(error, self.path) from None
        self._writing = None

    def abandon(self) -> None:
        """Close the file; after a failure what was written stays, as with a copy that broke off. Idempotent."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        if self._writing is None:
            os.close(descriptor)
            return

        def close(writing: asyncio.Future[None]) -> None:
            if not writing.cancelled():
                writing.exception()  # seen: the request has already failed
            os.close(descriptor)

        self._writing.add_done_callback(close)  # also when it is done already: then in the next turn of the loop


def _destination(path: str) -> os.stat_result | None:
    """What is at ``path`` now. Raises ``HttpError`` 400 when it can never be a file, ``OSError``."""
    if path.endswith("/"):
        raise HttpError(400, f"path '{path}' is a directory")
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise HttpError(400, f"path '{path}' is a directory")
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISCHR(status.st_mode)):
        raise HttpError(400, f"path '{path}' is not a regular file")
    return status


def _replace(descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
    """The first write to a file with an old content: afterwards the pieces are all it holds, also when it fails."""
    size = sum(map(len, pieces))
    if not size or os.fstat(descriptor).st_size > size:
        os.ftruncate(descriptor, size)
    try:
        _write_all(descriptor, pieces)
    except OSError:
        os.ftruncate(descriptor, os.lseek(descriptor, 0, os.SEEK_CUR))
        raise


def _write_all(descriptor: int, pieces: Sequence[bytes | memoryview]) -> None:
    """Write the pieces, as one where the kernel takes them so: each write is an event for watchers."""
    rest: list[bytes | memoryview] = [piece for piece in pieces if piece]
    while rest:
        written = os.writev(descriptor, rest)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = memoryview(rest[0])[written:]


def _check_space(path: str, size: int, old: os.stat_result | None) -> None:
    """Refuse early what cannot fit. Raises ``HttpError`` 507. ``path`` need not exist yet."""
    at = path
    while True:
        try:
            room = os.statvfs(at)
            break
        except OSError:
            if at in ("/", ""):
                return
            at = os.path.dirname(at)
    if not room.f_blocks:
        return  # /proc, /sys and their like keep nothing on a disk
    if size > room.f_bavail * room.f_frsize + (old.st_size if old is not None else 0):
        raise rest_error(OSError(errno.ENOSPC, ""), path)
