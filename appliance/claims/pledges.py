"""Deliveries under way, in a small file that outlives the process: what a killed manager took and never answered for.

A claim writes to the cluster before it answers, so a process that is killed in between leaves a sandbox that nobody was
told of. The id is noted here before the write and struck out when the claim has been answered, lost or cleaned up; what
is still open when the next process starts on the same file was never answered. Struck out just *before* the answer: a
sandbox that somebody may have is never among the open ones.

Lines of ``+id`` and ``-id``, appended without fsync: the file must survive a process, not the machine. A disk that
takes no line costs the memory of that delivery, nothing else.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)
MAX_BYTES: Final = 256 * 1024
"""Size at which the file is written anew with what is open."""


class Pledges:
    """Belongs to one process at a time. Without a path nothing is kept."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._open: set[str] = set()
        self._fd = -1
        self._size = 0

    def recover(self) -> frozenset[str]:
        """Take the file over; the ids that an earlier process left open, which stay open until they are closed."""
        if self._path is None:
            return frozenset()
        with suppress(OSError):
            for line in self._path.read_text(encoding="ascii", errors="replace").splitlines():
                if line.startswith("+"):
                    self._open.add(line[1:])
                else:
                    self._open.discard(line[1:])
        self._rewrite()
        return frozenset(self._open)

    def open(self, delivery: str) -> None:
        """A delivery begins: its write is about to be sent."""
        self._open.add(delivery)
        self._append(f"+{delivery}\n")

    def close(self, delivery: str) -> None:
        """It is answered, or there is nothing of it left. Harmless when it was closed before."""
        if delivery in self._open:
            self._open.discard(delivery)
            self._append(f"-{delivery}\n")

    def _append(self, line: str) -> None:
        if self._path is None:
            return
        if self._fd < 0 or self._size > MAX_BYTES:
            self._rewrite()
            return
        try:
            self._size += os.write(self._fd, line.encode())
        except OSError as error:
            log.warning("%s: %s: a delivery under way is not remembered", self._path, error)

    def _rewrite(self) -> None:
        """The file anew, complete at every moment."""
        assert self._path is not None
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            text = "".join(f"+{one}\n" for one in sorted(self._open)).encode()
            os.write(fd, text)
            fresh.replace(self._path)
        except OSError as error:
            log.warning("%s: %s: deliveries under way are not remembered", self._path, error)
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, len(text)

    def shut(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
