"""The OOM score children inherit.

Raised on the server itself around a spawn and put back, instead of written by the child: the child has it from its
first instruction and pays no exec. Raising needs no right; lowering to the old value needs none either, because the
kernel only guards values below the lowest one a privileged process ever set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_FILE = Path("/proc/self/oom_score_adj")


@cache
def _descriptor(pid: int) -> tuple[int, int] | None:
    """An open descriptor on our own score, and the score; None where ``/proc`` does not let us. Keyed by pid: forks
    differ.
    """
    try:
        descriptor = os.open(_FILE, os.O_RDWR | os.O_CLOEXEC)
        return descriptor, int(os.pread(descriptor, 16, 0))
    except (OSError, ValueError):
        return None


@contextmanager
def raised_oom_score(score: int | None) -> Iterator[None]:
    """Children made inside have ``oom_score_adj`` ``score``; None or a score not above our own changes nothing."""
    own = _descriptor(os.getpid())
    if score is None or own is None or score <= own[1]:
        yield
        return
    descriptor, before = own
    _write(descriptor, score)
    try:
        yield
    finally:
        _write(descriptor, before)


def _write(descriptor: int, score: int) -> None:
    try:
        os.pwrite(descriptor, str(score).encode(), 0)
    except OSError:
        return  # a kernel without the file's semantics: the score is a preference, not a promise
