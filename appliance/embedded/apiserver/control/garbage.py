"""Garbage collection by ownerReferences: background, foreground and orphan.

Committed changes feed a set of uids to look at; one task works it off. Every step re-reads the staged object and stages
its successor without waiting in between, so a dependent that lost its owner reference meanwhile (a claimed sandbox) is
never deleted by mistake. After a start everything is looked at once.
"""

from __future__ import annotations

import asyncio
import logging

from appliance.embedded.apiserver.backend import Backend
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.status import ApiStatus
from appliance.embedded.apiserver.store.history import Change
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.store.store import Key
from appliance.embedded.apiserver.verbs import delete, writer

log = logging.getLogger(__name__)
FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
RETRY = 1.0
"""Seconds before a step that the store refused is tried again."""
_OPTIONS = writer.Options(manager="garbage-collector")


class GarbageCollector:
    """``listen`` is a store listener; ``run`` works until cancelled."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._store = backend.store
        self._dirty: dict[Key, None] = {}
        self._gone: dict[str, None] = {}
        self._work = asyncio.Event()

    def listen(self, changes: list[Change]) -> None:
        """Notes what a commit may have left to collect."""
        for change in changes:
            record = change.record
            if change.kind == "DELETED":
                self._gone[record.uid] = None
            if change.kind != "DELETED" and (record.owners or record.deleting):
                self._dirty[record[:3]] = None
            elif change.kind == "DELETED":
                self._look_at_owners(record)
        if self._dirty or self._gone:
            self._work.set()

    def _look_at_owners(self, record: Record) -> None:
        """A foreground deletion may be waiting for this dependent."""
        for owner in record.owners:
            key = self._store.uids.get(owner)
            if key is not None:
                self._dirty[key] = None

    def scan(self) -> None:
        """Looks at every object once (after a start)."""
        for resource in self._store.kinds():
            for record in self._store.items(resource):
                if record.owners or record.deleting:
                    self._dirty[record[:3]] = None
        self._work.set()

    async def run(self) -> None:
        """Collects until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            while self._dirty or self._gone:
                await self._step()

    async def _step(self) -> None:
        gone, self._gone = self._gone, {}
        for uid in gone:
            self._dirty.update(dict.fromkeys(self._store.dependents.get(uid, ())))
        dirty, self._dirty = self._dirty, {}
        for number, key in enumerate(dirty):
            try:
                self._settle(key)
            except ApiStatus as status:
                log.warning("collecting %s: %s; trying again", "/".join(key), status)
                self._dirty[key] = None
                await asyncio.sleep(RETRY)
            if number % 64 == 63:
                await asyncio.sleep(0)  # a thousand dependents must not hold up requests

    def _settle(self, key: Key) -> None:
        record = self._store.peek(*key)
        res = self._backend.registry.by_key(key[0])
        if record is None or res is None:
            return
        if record.deleting:
            self._release(record)
        if record.owners:
            self._check_owners(record)

    def _check_owners(self, record: Record) -> None:
        living = [uid for uid in record.owners if self._lives(uid)]
        if len(living) == len(record.owners):
            return
        res = self._backend.registry.by_key(record.resource)
        if res is None:
            return
        if living:
            self._strip(record, set(record.owners) - set(living))
        elif not record.deleting:
            delete.begin(self._backend, res, record, {"propagationPolicy": "Background"}, _OPTIONS)

    def _lives(self, uid: str) -> bool:
        key = self._store.uids.get(uid)
        if key is None:
            return False
        record = self._store.peek(*key)
        return record is not None and record.uid == uid

    def _strip(self, record: Record, owners: set[str]) -> None:
        """Removes references to ``owners`` from a dependent."""
        obj = record.object()
        kept = [owner for owner in obj["metadata"]["ownerReferences"] if owner["uid"] not in owners]
        if kept:
            obj["metadata"]["ownerReferences"] = kept
        else:
            del obj["metadata"]["ownerReferences"]
        self._restage(record, obj)

    def _restage(self, record: Record, obj: Object) -> None:
        res = self._backend.registry.by_key(record.resource)
        if res is not None:
            writer.restage(self._backend, res, obj, _OPTIONS)

    def _release(self, record: Record) -> None:
        """Works on the propagation finalizers of a deleting owner."""
        obj = record.object()
        finalizers = obj["metadata"].get("finalizers") or []
        if ORPHAN in finalizers:
            for key in list(self._store.dependents.get(record.uid, ())):
                dependent = self._store.peek(*key)
                if dependent is not None and record.uid in dependent.owners:
                    self._strip(dependent, {record.uid})
            self._unhold(record, obj, ORPHAN)
        elif FOREGROUND in finalizers and not self._delete_dependents(record):
            self._unhold(record, obj, FOREGROUND)

    def _delete_dependents(self, owner: Record) -> bool:
        """Deletes what belongs to ``owner``; True while something still blocks its own deletion."""
        blocked = False
        for key in list(self._store.dependents.get(owner.uid, ())):
            dependent = self._store.peek(*key)
            res = self._backend.registry.by_key(key[0])
            if dependent is None or res is None or owner.uid not in dependent.owners:
                continue
            references = dependent.object()["metadata"]["ownerReferences"]
            blocked |= any(r["uid"] == owner.uid and r.get("blockOwnerDeletion") for r in references)
            others = [uid for uid in dependent.owners if uid != owner.uid and self._lives(uid)]
            if others:
                self._strip(dependent, {owner.uid})
            elif not dependent.deleting:
                delete.begin(self._backend, res, dependent, {"propagationPolicy": "Foreground"}, _OPTIONS)
        return blocked

    def _unhold(self, record: Record, obj: Object, finalizer: str) -> None:
        obj["metadata"]["finalizers"] = [name for name in obj["metadata"]["finalizers"] if name != finalizer]
        if not obj["metadata"]["finalizers"]:
            del obj["metadata"]["finalizers"]
        self._restage(record, obj)
