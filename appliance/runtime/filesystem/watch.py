"""Watching a directory, optionally with everything below it.

Events follow fsnotify on Linux: create and move-in are CREATE, data is WRITE, attributes are CHMOD, unlink is REMOVE,
move-away is RENAME of the old name. Names are relative to the watched directory. A new sub-directory is watched as
soon as it is seen; what was put into it before that moment is reported as CREATE too, once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

from appliance.runtime.filesystem import inotify
from appliance.runtime.filesystem.inotify import Hub

Deliver = Callable[[str, str], None]
"""Called with the relative name and the event type."""

_TYPES: Final = (
    (inotify.CREATE | inotify.MOVED_TO, "EVENT_TYPE_CREATE"),
    (inotify.MODIFY, "EVENT_TYPE_WRITE"),
    (inotify.DELETE | inotify.DELETE_SELF, "EVENT_TYPE_REMOVE"),
    (inotify.MOVED_FROM | inotify.MOVE_SELF, "EVENT_TYPE_RENAME"),
    (inotify.ATTRIB, "EVENT_TYPE_CHMOD"),
)


class Watch:
    """One watched tree. ``deliver`` gets each event, ``lost`` is called when some are missing; both in the loop."""

    def __init__(self, hub: Hub, root: str, recursive: bool, deliver: Deliver, lost: Callable[[], None]) -> None:
        self._hub = hub
        self._root = root
        self._recursive = recursive
        self._deliver = deliver
        self.lost = lost
        self._names: dict[int, str] = {}  # watch -> directory relative to the root, "" for the root
        self._told: set[tuple[int, str]] = set()  # found by scanning; the kernel's own event may follow

    def start(self, directories: Iterable[str] = ()) -> None:
        """Watch the root and ``directories`` (relative, parents first). Raises ``OSError`` for the root only."""
        self._names[self._hub.add(self._root, self)] = ""
        for name in directories:
            self._add(name)

    def close(self) -> None:
        """Stop; idempotent."""
        for watch in self._names:
            self._hub.remove(watch, self)
        self._names.clear()

    def event(self, watch: int, mask: int, name: str) -> None:
        """From the hub."""
        parent = self._names.get(watch)
        if parent is None:
            return
        if mask & inotify.IGNORED:
            del self._names[watch]
            return
        if not name and parent:
            return  # a sub-directory about itself: its parent's watch says the same
        relative = f"{parent}/{name}" if parent else name or "."
        if self._already_told(watch, name, mask):
            return
        self._tell(relative, mask)
        if self._recursive and name and mask & inotify.ISDIR:
            self._directory_changed(relative, mask)

    def drained(self) -> None:
        """From the hub: nothing that a scan found can be reported again."""
        self._told.clear()

    def _already_told(self, watch: int, name: str, mask: int) -> bool:
        if (watch, name) not in self._told or not mask & (inotify.CREATE | inotify.MOVED_TO | inotify.DELETE):
            return False
        self._told.discard((watch, name))
        return bool(mask & (inotify.CREATE | inotify.MOVED_TO))

    def _tell(self, relative: str, mask: int) -> None:
        for bits, kind in _TYPES:
            if mask & bits:
                self._deliver(relative, kind)

    def _directory_changed(self, relative: str, mask: int) -> None:
        if mask & inotify.MOVED_FROM:
            self._forget(relative)
        elif mask & inotify.MOVED_TO:
            for name in subdirectories(self._root, relative):
                self._add(name)
        elif mask & inotify.CREATE:
            self._scan_new(relative)

    def _scan_new(self, relative: str) -> None:
        """Watch a new directory, then report what is already in it, level by level."""
        pending = [relative]
        while pending:
            directory = pending.pop()
            watch = self._add(directory)
            if watch is None:
                continue
            for entry in _scan(f"{self._root}/{directory}"):
                self._told.add((watch, entry.name))
                self._deliver(f"{directory}/{entry.name}", "EVENT_TYPE_CREATE")
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{directory}/{entry.name}")

    def _add(self, relative: str) -> int | None:
        try:
            watch = self._hub.add(f"{self._root}/{relative}", self)
        except (FileNotFoundError, NotADirectoryError):
            return None  # gone again
        except OSError:
            self.lost()  # no more watches: the reader must know that it does not see everything
            return None
        self._names[watch] = relative
        return watch

    def _forget(self, relative: str) -> None:
        """A directory has moved away: its tree is not ours any more (or comes back under another name)."""
        prefix = relative + "/"
        for watch, name in list(self._names.items()):
            if name == relative or name.startswith(prefix):
                del self._names[watch]
                self._hub.remove(watch, self)


def subdirectories(root: str, relative: str = "") -> list[str]:
    """All directories below ``root/relative`` (and it itself, when not empty), relative to ``root``, parents first."""
    found: list[str] = []
    pending = [relative]
    while pending:
        directory = pending.pop()
        if directory:
            found.append(directory)
        entries = _scan(f"{root}/{directory}")
        pending += [
            f"{directory}/{e.name}" if directory else e.name for e in entries if e.is_dir(follow_symlinks=False)
        ]
    return found


def _scan(path: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
