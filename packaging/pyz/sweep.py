"""Removes what earlier versions of ``appliance.pyz`` extracted; lies in the file beside ``unpack``.

Runs after a first start has extracted its own tree, beside the others. A tree is removed when nobody has started it
for a fortnight, or for a day when enough younger ones are there, and when nothing uses it: every process that runs
from a tree holds a shared lock on its directory (``__main__``: ``_taken``). What such a process executes with ``-m``,
sandboxes, into which the tree is bound and which outlive the box, and versions older than this module do not hold it;
all of those show the tree's name in ``/proc``. Halves of killed extractions go as well.

A tree that is removed first takes the name of an unfinished extraction, under the lock of extractions: a start that
comes meanwhile waits and extracts anew, and a removal that was killed is finished by the next one. Nothing here fails
a start: what cannot be removed stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from glob import iglob

DAY = 86_400.0
UNUSED = 14 * DAY
"""Seconds since its last start after which a tree is removed."""
KEPT = 5
"""Trees besides the own one that are kept for UNUSED; older ones only for a day."""
AT_ONCE = 2
"""Trees removed by one start, which waits for it: two hundred megabytes, a quarter of a second."""
_TREE = re.compile(r".+_[0-9a-f]{16}(_\d{2,4})?")
_FRESH = ".tmp"


def sweep(parent: str, own: str) -> None:
    """Remove at most AT_ONCE trees in the directory ``parent``, never the one named ``own``. Raises nothing."""
    left = AT_ONCE
    with contextlib.suppress(OSError):
        for name in _unused(parent, own, time.time()):
            with contextlib.suppress(OSError):
                left -= _remove(parent, name)
            if not left:
                return


def _unused(parent: str, own: str, now: float) -> list[str]:
    """Names of the trees that may go if nothing uses them, the longest unused first."""
    ages = sorted(_ages(parent, own, now))
    return [name for place, (age, name) in enumerate(ages) if age > (UNUSED if place < KEPT else DAY)][::-1]


def _ages(parent: str, own: str, now: float) -> Iterator[tuple[float, str]]:
    """How long ago each tree was started last, in seconds; without end for half a tree."""
    with os.scandir(parent) as entries:
        for entry in entries:
            tree = entry.name.removesuffix(_FRESH)
            if tree == own or not _TREE.fullmatch(tree) or not entry.is_dir(follow_symlinks=False):
                continue
            found = entry.stat(follow_symlinks=False)
            if found.st_uid == os.geteuid() and _is_tree(entry.path):
                yield (now - found.st_mtime if entry.name == tree else float("inf")), entry.name


def _is_tree(path: str) -> bool:
    """Whether an extraction made it: it holds that one directory and nothing else."""
    return os.listdir(path) in ([], ["site-packages"])


def _remove(parent: str, name: str) -> bool:
    """Remove a tree, or half of one, unless somebody makes or uses it. Raises ``OSError``, also when somebody does."""
    tree = name.removesuffix(_FRESH)
    with open(os.path.join(parent, f".{tree}_lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if name == tree and not _set_aside(parent, tree):
            return False
        shutil.rmtree(os.path.join(parent, tree + _FRESH))
        return True


def _set_aside(parent: str, tree: str) -> bool:
    path = os.path.join(parent, tree)
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(directory).st_mtime < DAY or _shown_in_proc(tree):
            return False
        if os.path.lexists(path + _FRESH):
            shutil.rmtree(path + _FRESH)
        os.rename(path, path + _FRESH)
        return True
    finally:
        os.close(directory)


def _shown_in_proc(name: str) -> bool:
    """Whether a process has a module of the tree mapped, sees it bound into its root, or was given its path."""
    wanted = name.encode()
    for part in ("maps", "mountinfo", "environ"):
        for path in iglob(f"/proc/[0-9]*/{part}"):
            with contextlib.suppress(OSError), open(path, "rb") as file:
                if wanted in file.read():
                    return True
    return False
