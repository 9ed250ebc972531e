"""Users of the sandbox, read from its own ``/etc/passwd`` and ``/etc/group``.

The files are parsed here and not asked of libc: the runtime may run on a C library that is not the image's, and a
fork of the template must not depend on name-service modules. A parsed file is kept until its size, inode or time of
change differ, so a lookup costs one ``stat``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class UnknownUser(LookupError):
    """No such user."""


@dataclass(frozen=True, slots=True)
class User:
    """One line of passwd, with the supplementary groups."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    groups: tuple[int, ...]
    """Supplementary groups, the primary one included."""


@dataclass(frozen=True)
class _Passwd:
    by_name: dict[str, tuple[int, int, str, str]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Groups:
    names: dict[int, str] = field(default_factory=dict)
    members: dict[str, list[int]] = field(default_factory=dict)


class _Cached(Generic[T]):
    """A parsed file, parsed again when it changed; ``empty`` when it is missing."""

    def __init__(self, path: Path, parse: Callable[[str], T], empty: T) -> None:
        self._path = path
        self._parse = parse
        self._empty = empty
        self._stamp: tuple[int, int, int] | None = None
        self._value = empty

    def get(self) -> T:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if stamp != self._stamp:
                self._value = self._parse(self._path.read_text("utf-8", "replace"))
                self._stamp = stamp
        except OSError:
            self._value, self._stamp = self._empty, None
        return self._value


def _parse_passwd(text: str) -> _Passwd:
    parsed = _Passwd()
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 7 and parts[2].isdigit() and parts[3].isdigit():
            uid = int(parts[2])
            parsed.by_name.setdefault(parts[0], (uid, int(parts[3]), parts[5] or "/", parts[6]))
            parsed.names.setdefault(uid, parts[0])
    return parsed


def _parse_group(text: str) -> _Groups:
    parsed = _Groups()
    for line in text.splitlines():
        parts = line.split(":")
        if len(parts) >= 4 and parts[2].isdigit():
            gid = int(parts[2])
            parsed.names.setdefault(gid, parts[0])
            for member in filter(None, parts[3].split(",")):
                parsed.members.setdefault(member, []).append(gid)
    return parsed


class Users:
    """The user database of one root directory."""

    def __init__(self, etc: Path = Path("/etc")) -> None:
        self._passwd = _Cached(etc / "passwd", _parse_passwd, _Passwd())
        self._groups = _Cached(etc / "group", _parse_group, _Groups())

    def get(self, name: str) -> User:
        """The user called ``name``. Raises ``UnknownUser``."""
        entry = self._passwd.get().by_name.get(name)
        if entry is None:
            raise UnknownUser(name)
        uid, gid, home, shell = entry
        others = self._groups.get().members.get(name, [])
        return User(name, uid, gid, home, shell, tuple(dict.fromkeys([gid, *others])))

    def user_names(self) -> dict[int, str]:
        """uid -> name; do not change it."""
        return self._passwd.get().names

    def group_names(self) -> dict[int, str]:
        """gid -> name; do not change it."""
        return self._groups.get().names
