"""One supervisor per data directory, proven by a lock the kernel releases when its holder dies.

The lock is a ``flock`` on ``DATA/lock``; the pid inside is for the message only. Children do not inherit the descriptor
(it is close-on-exec), so after a ``kill -9`` the next start is not refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another supervisor holds the data directory."""

    def __init__(self, path: Path, pid: str) -> None:
        super().__init__(
            f"another appliance (pid {pid or 'unknown'}) is running on {path.parent}; "
            f"stop it first, or choose another directory with --data-dir"
        )
        self.pid = pid


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock at ``path`` for the duration of the block.

    Raises:
        AlreadyRunning: another process holds it; the message names its pid.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(path, os.read(descriptor, 32).decode(errors="replace").strip()) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder(path: Path) -> int | None:
    """The pid of the supervisor that holds ``path``; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode(errors="replace").strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None
