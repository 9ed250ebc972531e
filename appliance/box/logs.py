"""Log files that cannot fill the disk: each has a limit, and one predecessor.

Roles write through descriptors opened for appending, which stay open for their whole life: a log that grew too large
is copied to ``NAME.log.1`` and cut to nothing in place, so that nobody has to be told. Lines written between the copy
and the cut are lost; there are few.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
from pathlib import Path

log = logging.getLogger(__name__)

KEEP = 16 * 1024 * 1024
"""Bytes of a log above which it is moved aside; with its predecessor a log so takes at most about twice that."""
INTERVAL = 10.0
"""Seconds between two looks."""


async def bound(directory: Path) -> None:
    """Keep the logs of ``directory`` small until cancelled; trouble with one is logged and tried again."""
    while True:
        await asyncio.to_thread(move_aside, directory)
        await asyncio.sleep(INTERVAL)


def move_aside(directory: Path, keep: int = KEEP) -> None:
    """One look at every ``*.log``."""
    for path in directory.glob("*.log"):
        try:
            if path.stat().st_size > keep:
                _cut(path)
        except OSError as error:
            log.warning("%s cannot be moved aside: %s", path, error)


def _cut(path: Path) -> None:
    """Copy what there is, then cut, also when the disk has no room for the copy: a full disk is what this prevents."""
    older = path.with_name(f"{path.name}.1")
    try:
        shutil.copyfile(path, older)
    finally:
        os.truncate(path, 0)
