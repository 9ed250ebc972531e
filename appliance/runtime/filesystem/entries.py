"""Describing one file: ``EntryInfo``.

Permissions, owner, size and time are the entry's own; type and mode of a symbolic link are those of what it finally
points to. Names of owners come from tables the caller fetched once per request, so a listing of a thousand files
reads passwd no time at all.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from functools import lru_cache
from typing import Final, NamedTuple

from appliance.runtime.filesystem.messages import EntryInfo
from appliance.runtime.users import Users

METADATA_PREFIX: Final = "user.e2b."
"""Extended attributes that carry the metadata of uploads."""

_PERMISSIONS: Final = 0o777
"""The bits told as ``mode``; set-user-id, set-group-id and sticky show in ``permissions`` only, as with Go's Perm."""
_RWX: Final = ("---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx")
# The letters of Go's fs.FileMode.String, in its order.
_LETTERS: Final = (
    ("d", stat.S_ISDIR),
    ("L", stat.S_ISLNK),
    ("D", lambda mode: stat.S_ISBLK(mode) or stat.S_ISCHR(mode)),
    ("p", stat.S_ISFIFO),
    ("S", stat.S_ISSOCK),
    ("u", lambda mode: mode & stat.S_ISUID),
    ("g", lambda mode: mode & stat.S_ISGID),
    ("c", stat.S_ISCHR),
    ("t", lambda mode: mode & stat.S_ISVTX),
)


class _Mode(NamedTuple):
    """What a mode says, worked out once for all entries that have it."""

    kind: str
    permissions: str
    bits: int
    regular: bool
    link: bool


class Describer:
    """Describes entries for one request; ``reduced``: name, type and path only."""

    def __init__(self, users: Users, *, reduced: bool = False) -> None:
        self._reduced = reduced
        self._owners = users.user_names()
        self._groups = users.group_names()
        self._modes: dict[int, _Mode] = {}

    def entry(self, path: str, status: os.stat_result | None = None, name: str | None = None) -> EntryInfo:
        """The entry at ``path``; ``status`` is its ``lstat``, ``name`` its last part. Raises ``OSError``."""
        status = os.lstat(path) if status is None else status
        name = (os.path.basename(path.rstrip("/")) or "/") if name is None else name
        if self._reduced:
            return _reduced(name, path, status.st_mode)
        mode = self._modes.get(status.st_mode) or self._mode(status.st_mode)
        uid, gid = status.st_uid, status.st_gid
        info = EntryInfo(
            name=name,
            type=mode.kind,
            path=path,
            size=str(status.st_size),
            mode=mode.bits,
            permissions=mode.permissions,
            owner=self._owners.get(uid) or str(uid),
            group=self._groups.get(gid) or str(gid),
            modified_time=_rfc3339(status.st_mtime_ns),
        )
        if mode.regular:
            if metadata := read_metadata(path):
                info.metadata = metadata
        elif mode.link:
            _describe_link(info, path)
        return info

    def _mode(self, mode: int) -> _Mode:
        bits, regular, link = mode & _PERMISSIONS, stat.S_ISREG(mode), stat.S_ISLNK(mode)
        found = self._modes[mode] = _Mode(_file_type(mode), permission_text(mode), bits, regular, link)
        return found


def _reduced(name: str, path: str, mode: int) -> EntryInfo:
    info = EntryInfo(name=name, type=_file_type(mode), path=path)
    if stat.S_ISLNK(mode):
        with contextlib.suppress(OSError):
            info.type = _file_type(os.stat(path).st_mode)
    return info


def permission_text(mode: int) -> str:
    """A mode as Go prints it: ``-rw-r--r--``, ``drwxr-xr-x``, ``Lrwxrwxrwx``, ``dtrwxrwxrwx``."""
    letters = "".join(letter for letter, is_set in _LETTERS if is_set(mode)) or "-"
    return letters + _RWX[mode >> 6 & 7] + _RWX[mode >> 3 & 7] + _RWX[mode & 7]


def _file_type(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "FILE_TYPE_FILE"
    return "FILE_TYPE_DIRECTORY" if stat.S_ISDIR(mode) else "FILE_TYPE_UNSPECIFIED"


def _describe_link(info: EntryInfo, path: str) -> None:
    info.is_symlink = True
    info.symlink_target = os.path.realpath(path)
    try:
        target = os.stat(path)
    except OSError:
        info.mode = 0
        return  # broken: the type stays unspecified
    info.type = _file_type(target.st_mode)
    info.mode = target.st_mode & _PERMISSIONS


def read_metadata(path: str) -> dict[str, str]:
    """The metadata of the upload that wrote the file; empty where the file system has no attributes."""
    try:
        names = os.listxattr(path, follow_symlinks=False)
        return (
            {name.removeprefix(METADATA_PREFIX): _attribute(path, name) for name in names if _ours(name)}
            if names
            else {}
        )
    except OSError:
        return {}


def _ours(name: str) -> bool:
    return name.startswith(METADATA_PREFIX)


def _attribute(path: str, name: str) -> str:
    return os.getxattr(path, name, follow_symlinks=False).decode("utf-8", "replace")


@lru_cache(512)
def _second(seconds: int) -> str:
    """The files of a tree are often written within a few seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _rfc3339(nanoseconds: int) -> str:
    seconds, nanos = divmod(nanoseconds, 1_000_000_000)
    return f"{_second(seconds)}.{nanos:09d}Z" if nanos else f"{_second(seconds)}Z"
