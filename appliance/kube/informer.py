"""A live, indexed copy of one resource, for a single asyncio loop.

``run`` lists and watches for ever and survives everything the network does; whoever needs the copy waits for
``synced``. Between two relists the copy is never emptied: a relist is turned into the changes it implies. Writers hand
the answers to their writes to ``observe`` and then read their own writes here. Handlers are called synchronously, after
the cache changed, in the order of the changes, and must not block; existing objects are not replayed to a handler
that subscribes late (read ``items``).

Cost: an event is one dict operation per index; reads are O(result).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from appliance.api.kinds import Kind
from appliance.api.structs import Object
from appliance.kube import selectors, watching
from appliance.kube.cluster import Cluster
from appliance.kube.codec import Event, Page, revision
from appliance.kube.store import Change, IndexFunction, Key, Store

T = TypeVar("T", bound=Object)
Handler = Callable[[T | None, T | None], None]
Predicate = Callable[[T | None], bool]

_LAG_SAMPLES = 1024
"""Observed writes whose arrival on the watch is timed at once."""
_NO_INDEXES: Mapping[str, Any] = MappingProxyType({})

log = logging.getLogger(__name__)


class Informer(Generic[T]):
    """The objects of one kind in one namespace or in all, optionally only those a label selector matches."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind[T],
        *,
        namespace: str | None = None,
        label_selector: str = "",
        indexes: Mapping[str, IndexFunction[T]] = _NO_INDEXES,
    ) -> None:
        self.kind = kind
        self._source = cluster.source(kind, namespace, None, label_selector)
        self._metrics = cluster.metrics
        self._namespace = namespace
        self._matches = selectors.parse(label_selector)
        self._store: Store[T] = Store(indexes)
        self._synced = asyncio.Event()
        self._handlers: dict[object, Handler[T]] = {}
        self._waiters: dict[Key, dict[asyncio.Future[T | None], Predicate[T]]] = {}
        self._position = 0
        """Highest version of a list, event or bookmark seen: how far the copy is known to be complete."""
        self._awaited: OrderedDict[Key, tuple[int, float]] = OrderedDict()

    # Reading ------------------------------------------------------------------------------------------------------
    async def synced(self) -> None:
        """Wait until the first list is complete."""
        await self._synced.wait()

    @property
    def is_synced(self) -> bool:
        """Whether the first list is complete."""
        return self._synced.is_set()

    def get(self, namespace: str | None, name: str) -> T | None:
        """The object, or None; ``namespace`` None or empty for cluster-scoped kinds."""
        return self._store.get((namespace or "", name))

    def items(self) -> Collection[T]:
        """All objects: a live view; copy it before an ``await`` in the loop."""
        return self._store.items()

    def by_index(self, index: str, value: str) -> Collection[T]:
        """Snapshot of the objects an index filed under ``value``, longest filed first.

        Index functions are asked when an object changes, not when time passes. KeyError for an unknown index.
        """
        return self._store.by_index(index, value)

    async def wait_for(
        self, namespace: str | None, name: str, predicate: Callable[[T | None], bool], timeout: float
    ) -> T | None:
        """The object as soon as ``predicate`` holds for it (None: it does not exist); at once when it does already.

        Raises TimeoutError after ``timeout`` seconds, and whatever the predicate raises.
        """
        key = (namespace or "", name)
        async with asyncio.timeout(timeout):
            await self._synced.wait()
            current = self._store.get(key)
            if predicate(current):
                return current
            future: asyncio.Future[T | None] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(key, {})
            waiters[future] = predicate
            try:
                return await future
            finally:
                waiters.pop(future, None)
                if not waiters and self._waiters.get(key) is waiters:
                    del self._waiters[key]

    def subscribe(self, handler: Handler[T]) -> Callable[[], None]:
        """Call ``handler(old, new)`` after every change; the returned function ends it."""
        token = object()
        self._handlers[token] = handler

        def unsubscribe() -> None:
            self._handlers.pop(token, None)

        return unsubscribe

    # Writing ------------------------------------------------------------------------------------------------------
    def observe(self, obj: T) -> None:
        """The answer to a write of ours: visible here at once, if it is newer than what is here.

        Never brings back a deleted uid. An object outside the informer's namespace or selector leaves the cache.
        """
        if self._namespace and obj.namespace != self._namespace:
            return
        if not self._matches(obj.meta.labels):
            current = self._store.get(obj.key)
            if current is not None and _supersedes(obj, current):
                self._publish(self._store.remove(obj))
            return
        changes = self._store.upsert(obj, observed=True)
        if changes:
            self._expect(obj)
            self._publish(changes)

    async def run(self) -> None:
        """List and watch until cancelled."""
        seen: set[Key] = set()
        async with aclosing(watching.persist(self._source)) as steps:
            async for step in steps:
                match step:
                    case watching.Listing():
                        seen = set()
                    case Page():
                        self._on_page(step, seen)
                    case watching.Listed():
                        self._on_listed(step.resource_version, seen)
                        seen = set()
                    case Event():
                        self._on_event(step)

    def _on_page(self, page: Page[T], seen: set[Key]) -> None:
        if revision(page.resource_version) < self._position and not seen:
            self._on_history_replaced(page.resource_version)
        for item in page.items:
            seen.add(item.key)
            self._publish(self._store.upsert(item))

    def _on_listed(self, version: str, seen: set[Key]) -> None:
        self._position = max(self._position, revision(version))
        self._publish(self._store.retain(seen, revision(version)))
        self._synced.set()

    def _on_history_replaced(self, version: str) -> None:
        """A list older than what was seen before: the cluster was restored from a backup or made anew."""
        log.warning(
            "%s: the list has version %s, but %d was seen before; starting afresh",
            self.kind.plural,
            version,
            self._position,
        )
        self._position = 0
        self._publish(self._store.clear())

    def _on_event(self, event: Event[T]) -> None:
        version = revision(event.object.meta.resource_version)
        self._position = max(self._position, version)
        if event.type == "DELETED":
            self._awaited.pop(event.object.key, None)
            self._publish(self._store.remove(event.object))
        elif event.type in ("ADDED", "MODIFIED"):
            self._arrived(event.object.key, version)
            self._publish(self._store.upsert(event.object))

    def _expect(self, obj: T) -> None:
        self._awaited[obj.key] = (revision(obj.meta.resource_version), time.monotonic())
        if len(self._awaited) > _LAG_SAMPLES:
            self._awaited.popitem(last=False)

    def _arrived(self, key: Key, version: int) -> None:
        expected = self._awaited.get(key)
        if expected is not None and version >= expected[0]:
            del self._awaited[key]
            self._metrics.lag[self.kind.plural] = time.monotonic() - expected[1]

    def _publish(self, changes: list[Change[T]]) -> None:
        """Tell handlers and waiters; one that fails is logged and does not keep the others from hearing."""
        for old, new in changes:
            for handler in tuple(self._handlers.values()):
                try:
                    handler(old, new)
                except Exception:
                    log.exception("a handler of %s failed", self.kind.plural)
            item = new or old
            if item is not None and item.key in self._waiters:
                self._wake(item.key, new)

    def _wake(self, key: Key, new: T | None) -> None:
        for future, predicate in tuple(self._waiters[key].items()):
            if future.done():
                continue
            try:
                if predicate(new):
                    future.set_result(new)
            except Exception as error:
                future.set_exception(error)


def _supersedes(obj: Object, current: Object) -> bool:
    return obj.uid == current.uid and revision(obj.meta.resource_version) > revision(current.meta.resource_version)
