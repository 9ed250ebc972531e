"""Extracts the tree of ``appliance.pyz``; lies in the file beside ``__main__`` and is loaded on a first start only.

shiv's own extraction opens four thousand members one by one through ``zipfile`` and takes longer than everything else
of a start. Here the members are read where the directory says they lie, compiled modules of other Pythons are left
out, and several processes share the work. A killed extraction leaves a directory that the next one removes: the tree
gets its name when it is whole. The lock is ``flock``'s, which forked workers hold too, so that workers whose parent
was killed are waited for.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import sys
import zipfile
import zlib
from collections.abc import Sequence

SITE = "site-packages/"
WORKERS = 4
"""Processes at most; no more than there are processors."""
_ABI = re.compile(r"\.cpython-(\d+)-")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
_LOCAL = 30
"""Bytes of a member's own header, before its name."""


def unpack(archive: str, members: Sequence[zipfile.ZipInfo], target: str) -> None:
    """Make ``target`` of those ``members`` that this Python can use, unless somebody else has made it meanwhile.

    Raises:
        zipfile.BadZipFile: a member is not what the directory says; the message names it.
        zlib.error: a member cannot be decompressed.
        OSError: ``target`` or what is beside it cannot be written.
    """
    parent, name = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    fresh = f"{target}.tmp"
    with open(os.path.join(parent, f".{name}_lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.isdir(os.path.join(target, SITE)):
            return
        for leftover in (fresh, target):
            if os.path.lexists(leftover):
                shutil.rmtree(leftover)
        try:
            _write(archive, [one for one in members if _wanted(one.filename)], fresh)
            os.rename(fresh, target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def _wanted(name: str) -> bool:
    match = _ABI.search(name)
    own = f"{sys.version_info[0]}{sys.version_info[1]}"
    return name.startswith(SITE) and not name.endswith("/") and (match is None or match[1] == own)


def _write(archive: str, members: Sequence[zipfile.ZipInfo], target: str) -> None:
    for directory in sorted({os.path.dirname(one.filename) for one in members}):
        os.makedirs(os.path.join(target, directory), exist_ok=True)
    workers = min(len(os.sched_getaffinity(0)), WORKERS)
    shares = [members[first::workers] for first in range(workers)]
    children = [(_forked(archive, share, target), share) for share in shares[1:]]
    failed = []
    try:
        _write_share(archive, shares[0], target)
    finally:
        failed = [share for child, share in children if child is None or os.waitpid(child, 0)[1] != 0]
    for share in failed:  # once more here: either it works now, or it says what is wrong
        _write_share(archive, share, target)


def _forked(archive: str, share: Sequence[zipfile.ZipInfo], target: str) -> int | None:
    """A child that writes its share and ends; its exit status is all it says. None where there cannot be one."""
    try:
        child = os.fork()
    except OSError:
        return None
    if child:
        return child
    status = 1
    try:
        _write_share(archive, share, target)
        status = 0
    finally:
        os._exit(status)


def _write_share(archive: str, members: Sequence[zipfile.ZipInfo], target: str) -> None:
    with open(archive, "rb") as file:
        for member in members:
            out = os.open(os.path.join(target, member.filename), _NEW, (member.external_attr >> 16) & 0o777)
            try:
                left = memoryview(_contents(file.fileno(), member))
                while left:
                    left = left[os.write(out, left) :]
            finally:
                os.close(out)


def _contents(file: int, member: zipfile.ZipInfo) -> bytes:
    """The member's bytes, read from its place and held to the directory's size and checksum."""
    header = os.pread(file, _LOCAL, member.header_offset)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    data = os.pread(file, member.compress_size, member.header_offset + _LOCAL + names)
    if member.compress_type == zipfile.ZIP_DEFLATED:
        data = zlib.decompress(data, -zlib.MAX_WBITS, max(member.file_size, 1))
    if len(data) != member.file_size or zlib.crc32(data) != member.CRC:
        raise zipfile.BadZipFile(f"{member.filename} has another checksum")
    return data
