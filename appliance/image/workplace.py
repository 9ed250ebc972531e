"""A directory for the minutes that an image or a bundle takes to make, of which nothing stays behind.

A maker that ends removes its own directory. One that was killed cannot; the next one of the same kind does it. A maker
holds the lock of the file ``.lock`` in its directory for as long as it or a worker forked from it lives, so a lock
that can be had says that nobody works there any more; neither a process id that was given away again nor another
PID namespace deceives it. The file gets its name when it is locked: a directory without it is either a moment old, or
was left by a version that had no locks and is removed after a day.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_LOCK = ".lock"
_UNLOCKED_FOR = 86_400.0
"""Seconds after which a directory without a lock file counts as left."""


def require_place(output: Path) -> None:
    """Refuse a file that cannot be written, before the minutes that its making takes.

    Raises:
        ValueError: ``-o`` names a directory, or a file in a directory that does not exist or is not writable.
    """
    directory = output.absolute().parent
    if output.is_dir():
        raise ValueError(f"-o {output}: this is a directory; expected the name of a file")
    if not directory.is_dir():
        raise ValueError(f"-o {output}: there is no directory {directory}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ValueError(f"-o {output}: the directory {directory} is not writable")


@contextlib.contextmanager
def workplace(prefix: str) -> Iterator[Path]:
    """A new directory below the system's temporary one, its name beginning with ``prefix``; removed at the end.

    Raises:
        OSError: it cannot be made.
    """
    remove_abandoned(Path(tempfile.gettempdir()), prefix, time.time())
    with tempfile.TemporaryDirectory(prefix=prefix) as name, _locked(Path(name)):
        yield Path(name)


def remove_abandoned(parent: Path, prefix: str, now: float) -> None:
    """Remove this user's directories of that name in ``parent`` in which nobody works; what cannot be removed stays."""
    for directory in sorted(parent.glob(f"{prefix}*")):
        with contextlib.suppress(OSError):
            found = directory.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            if _abandoned(directory, now - found.st_mtime):
                shutil.rmtree(directory)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    fresh = directory / f"{_LOCK}.new"
    with fresh.open("x") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh.rename(directory / _LOCK)
        yield


def _abandoned(directory: Path, age: float) -> bool:
    try:
        lock = (directory / _LOCK).open("rb")
    except FileNotFoundError:
        return age > _UNLOCKED_FOR
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
