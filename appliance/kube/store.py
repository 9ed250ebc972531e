"""The cache behind an informer: objects by key, indexes over them, and the rules of what is newer.

Two streams write into it: the watch, and the answers to this process's own writes (``observe``), which arrive earlier
or later than the same change on the watch. The rules make the order irrelevant:

* an object replaces the cached one of the same uid only with a higher resourceVersion;
* another uid under the same name is a deletion and a creation, if its version is higher;
* a deleted uid leaves a tombstone, and only the watch may show that uid again (with a higher version: it re-entered
  the selector); the answer to an old write cannot;
* a complete list removes whatever it lacks, except what is newer than the list.

No I/O, no clock. Every method returns the changes it made as ``(old, new)`` pairs.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Generic, TypeVar

from appliance.api.structs import Object
from appliance.kube.codec import revision

T = TypeVar("T", bound=Object)
Key = tuple[str, str]
Change = tuple[T | None, T | None]
IndexFunction = Callable[[T], Iterable[str]]

TOMBSTONES = 16_384
"""Deleted uids remembered; an answer to a write would have to be overtaken by so many deletions to be misjudged."""

log = logging.getLogger(__name__)


class Store(Generic[T]):
    """Objects by ``(namespace, name)`` with insertion-ordered indexes."""

    def __init__(self, indexes: Mapping[str, IndexFunction[T]]) -> None:
        self._functions = dict(indexes)
        self._objects: dict[Key, T] = {}
        self._buckets: dict[str, dict[str, dict[Key, T]]] = {name: {} for name in indexes}
        self._filed: dict[Key, tuple[tuple[str, str], ...]] = {}
        """Under which (index, value) an object is filed: functions may depend on time, so they are not asked again."""
        self._tombstones: OrderedDict[str, int] = OrderedDict()

    def get(self, key: Key) -> T | None:
        """The object, or None."""
        return self._objects.get(key)

    def items(self) -> Collection[T]:
        """All objects: a live view, so do not await while iterating."""
        return self._objects.values()

    def by_index(self, index: str, value: str) -> Collection[T]:
        """A snapshot of the objects filed under that value, oldest filing first. KeyError for an unknown index."""
        bucket = self._buckets[index].get(value)
        return tuple(bucket.values()) if bucket else ()

    def upsert(self, item: T, *, observed: bool = False) -> list[Change[T]]:
        """An ADDED or MODIFIED object, or one of a list; ``observed``: the answer to a write of ours."""
        buried = self._tombstones.get(item.uid)
        if buried is not None:
            if observed or revision(item.meta.resource_version) <= buried:
                return []
            del self._tombstones[item.uid]
        old = self._objects.get(item.key)
        if old is None:
            self._put(item)
            return [(None, item)]
        if not _newer(item, old):
            return []
        if old.uid == item.uid:
            self._put(item)
            return [(old, item)]
        self._bury(old, revision(old.meta.resource_version))
        self._put(item)
        return [(old, None), (None, item)]

    def remove(self, item: T) -> list[Change[T]]:
        """A DELETED object, in its last state."""
        self._bury(item, revision(item.meta.resource_version))
        old = self._objects.get(item.key)
        if old is None or old.uid != item.uid:
            return []
        self._drop(item.key)
        return [(old, None)]

    def retain(self, seen: Collection[Key], list_version: int) -> list[Change[T]]:
        """A list of that version is complete and contained ``seen``: remove the others, unless newer than it."""
        gone = [
            item
            for key, item in self._objects.items()
            if key not in seen and revision(item.meta.resource_version) <= list_version
        ]
        for item in gone:
            self._bury(item, list_version)
            self._drop(item.key)
        return [(item, None) for item in gone]

    def clear(self) -> list[Change[T]]:
        """Forget everything, tombstones too: the cluster's history was replaced."""
        gone = list(self._objects.values())
        for item in gone:
            self._drop(item.key)
        self._tombstones.clear()
        return [(item, None) for item in gone]

    def _put(self, item: T) -> None:
        key = item.key
        filed = self._file_under(item)
        before = self._filed.get(key, ())
        for index, value in before:
            if (index, value) not in filed:
                self._unfile(key, index, value)
        for index, value in filed:
            self._buckets[index].setdefault(value, {})[key] = item
        self._objects[key] = item
        if filed:
            self._filed[key] = filed
        else:
            self._filed.pop(key, None)

    def _file_under(self, item: T) -> tuple[tuple[str, str], ...]:
        """Where the object belongs; an index function that fails on an odd object must not stop the cache."""
        filed: list[tuple[str, str]] = []
        for index, function in self._functions.items():
            try:
                filed += [(index, value) for value in function(item)]
            except Exception:
                log.exception("index %s cannot file %s/%s", index, item.namespace, item.name)
        return tuple(filed)

    def _drop(self, key: Key) -> None:
        del self._objects[key]
        for index, value in self._filed.pop(key, ()):
            self._unfile(key, index, value)

    def _unfile(self, key: Key, index: str, value: str) -> None:
        bucket = self._buckets[index].get(value)
        if bucket is not None:
            bucket.pop(key, None)
            if not bucket:
                del self._buckets[index][value]

    def _bury(self, item: T, at: int) -> None:
        if not item.uid:
            return
        self._tombstones[item.uid] = max(at, self._tombstones.get(item.uid, 0))
        if len(self._tombstones) > TOMBSTONES:
            self._tombstones.popitem(last=False)


def _newer(item: Object, old: Object) -> bool:
    """Whether ``item`` supersedes ``old``; unreadable versions count as newer, unless they are equal."""
    if item.meta.resource_version == old.meta.resource_version:
        return False
    new_version, old_version = revision(item.meta.resource_version), revision(old.meta.resource_version)
    return not new_version or not old_version or new_version > old_version
