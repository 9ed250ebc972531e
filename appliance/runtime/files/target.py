"""The file an upload writes: opened, given to the user, then filled.

Order matters to watchers: a new file must show exactly CREATE, CHMOD (the change of owner) and, for a small body, one
WRITE. So ownership comes before data, and data is gathered to ``FLUSH`` bytes before it is written. Larger bodies are
written by a worker thread while the next bytes arrive; two buffers are all the memory an upload of any size uses.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Mapping
from typing import Final

from appliance.runtime.files.metadata import replace_metadata
from appliance.runtime.filesystem.directories import give, make_parents
from appliance.runtime.filesystem.failures import rest_error
from appliance.runtime.http import HttpError
from appliance.runtime.users import User

FLUSH: Final = 1024 * 1024
_MAX_PIECES: Final = 512
"""Pieces in one write; Linux takes at most 1,024."""


class Target:
    """One destination. Use ``open``, ``write``…, ``finish``; ``abandon`` in every case at the end."""

    def __init__(self, path: str, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._pieces: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Future[None] | None = None

    @classmethod
    def open(cls, path: str, user: User, metadata: Mapping[str, str]) -> Target:
        """Create or truncate ``path``; missing parents are made. Raises ``HttpError`` 400, 403, 500, 507."""
        try:
            existed = _check_destination(path)
            if not existed:
                make_parents(path, user)
            # O_NONBLOCK: a named pipe without a reader must fail, not hang the runtime.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK
            descriptor = os.open(path, flags, 0o666)
        except OSError as error:
            raise rest_error(error, path) from None
        try:
            give(descriptor, user)
            replace_metadata(descriptor, metadata, existed=existed)
        except OSError as error:
            os.close(descriptor)
            raise rest_error(error, path) from None
        return cls(path, descriptor)

    async def write(self, data: bytes) -> None:
        """Add ``data``; waits for the disk when a whole buffer is ahead of it. Raises ``HttpError``."""
        self._pieces.append(data)
        self._size += len(data)
        if len(self._pieces) >= _MAX_PIECES:
            self._pieces = [b"".join(self._pieces)]  # a body in many small pieces is still one write
        if self._size >= FLUSH:
            await self._settle()
            loop = asyncio.get_running_loop()
            self._writing = loop.run_in_executor(None, _write_all, self._descriptor, self._take())

    def _take(self) -> list[bytes]:
        pieces, self._pieces, self._size = self._pieces, [], 0
        return pieces

    async def finish(self) -> None:
        """Write what is left. Raises ``HttpError`` 507 when the disk is full."""
        await self._settle()
        try:
            _write_all(self._descriptor, self._take())
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


def _check_destination(path: str) -> bool:
    """Whether ``path`` exists. Raises ``HttpError`` 400 when it can never be a file."""
    if path.endswith("/"):
        raise HttpError(400, f"path '{path}' is a directory")
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise HttpError(400, f"path '{path}' is a directory")
    if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):
        raise HttpError(400, f"path '{path}' is not a regular file")
    return True


def _write_all(descriptor: int, pieces: list[bytes]) -> None:
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


def check_space(path: str, size: int) -> None:
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
    replaced = 0
    if at == path:
        replaced = os.stat(path).st_size
    if size > room.f_bavail * room.f_frsize + replaced:
        raise rest_error(OSError(errno.ENOSPC, ""), path)
