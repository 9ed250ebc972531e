"""Making, listing and removing directories, with root's rights and the user's ownership."""

from __future__ import annotations

import contextlib
import errno
import operator
import os
import shutil
import stat

from appliance.runtime.connect.errors import Code, ConnectError, invalid
from appliance.runtime.filesystem.entries import Describer
from appliance.runtime.filesystem.messages import EntryInfo
from appliance.runtime.users import User


def give(path: str | int, user: User) -> None:
    """Make ``user`` the owner. A runtime without root's rights leaves the file its own."""
    with contextlib.suppress(PermissionError):
        os.chown(path, user.uid, user.gid)


def make_parents(path: str, user: User) -> None:
    """Create the missing directories above ``path``, each 0755 and the user's. Raises ``OSError``."""
    parent = os.path.dirname(path.rstrip("/"))
    if parent and parent != path:
        make_directories(parent, user)


def make_directories(path: str, user: User) -> None:
    """Create ``path`` and what is missing above it; an existing directory is fine. Raises ``OSError``."""
    missing: list[str] = []
    at = path.rstrip("/") or "/"
    while not os.path.isdir(at):
        if os.path.lexists(at):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), at)
        missing.append(at)
        at = os.path.dirname(at) or "/"
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o755)
        except FileExistsError:
            continue  # somebody else was faster: theirs to own
        give(directory, user)


def make_directory(path: str, user: User) -> None:
    """``MakeDir``. Raises ``ConnectError`` already_exists or invalid_argument, ``OSError``."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        make_directories(path, user)
        return
    except NotADirectoryError:
        raise invalid(f"a file is in the way of directory {path}") from None
    if stat.S_ISDIR(mode):
        raise ConnectError(Code.ALREADY_EXISTS, f"directory already exists: {path}")
    raise invalid(f"path already exists but it is not a directory: {path}")


def list_directory(path: str, depth: int, describer: Describer) -> list[EntryInfo]:
    """Entries below ``path``, depth first, in byte order within a directory; those that vanish meanwhile are left out.

    Raises ``ConnectError`` invalid_argument when it is no directory, ``OSError``.
    """
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise invalid(f"path is not a directory: {path}")
    entries: list[EntryInfo] = []
    # An explicit stack: a directory is described before its content, siblings in order.
    stack = _children(path.rstrip("/"), path, 1)
    while stack:
        child, name, status, level = stack.pop()
        try:
            entries.append(describer.entry(child, status, name))
            if level < depth and stat.S_ISDIR(status.st_mode):
                stack += _children(child, child, level + 1)
        except OSError:
            continue
    return entries


def _children(prefix: str, directory: str, level: int) -> list[tuple[str, str, os.stat_result, int]]:
    """The entries of a directory, last first. By descriptor: so the kernel walks the path once, not per entry."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    found = []
    try:
        with os.scandir(descriptor) as each:
            for entry in each:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                name = entry.name
                found.append((f"{prefix}/{name}", name, status, level))
    finally:
        os.close(descriptor)
    found.sort(key=_path, reverse=True)
    return found


_path = operator.itemgetter(0)


def remove(path: str) -> None:
    """Remove a file or a whole tree; a missing path is success. Raises ``ConnectError`` for the root, ``OSError``."""
    if os.path.normpath(path) in ("/", "//"):
        raise invalid("path: the root directory cannot be removed")
    try:
        if stat.S_ISDIR(os.lstat(path.rstrip("/")).st_mode):
            shutil.rmtree(path.rstrip("/"))
        else:
            os.unlink(path.rstrip("/"))
    except (FileNotFoundError, NotADirectoryError):
        return


def move(source: str, destination: str, user: User) -> None:
    """Rename, creating the destination's parents. Raises ``ConnectError`` not_found, ``OSError``."""
    if not os.path.lexists(source):  # it must not leave new parents behind
        raise ConnectError(Code.NOT_FOUND, f"source file not found: {source}")
    make_parents(destination, user)
    os.rename(source, destination)
