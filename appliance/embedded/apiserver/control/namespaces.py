"""Namespaces: the ones that always exist, and emptying those that are deleted.

A Terminating namespace loses its objects (finalizers are respected, pods get their grace), then itself. A
CustomResourceDefinition that is deleted empties its kind in the same way.
"""

from __future__ import annotations

import asyncio
import logging

from appliance.embedded.apiserver.backend import Backend
from appliance.embedded.apiserver.control.crds import CRDS, FINALIZER
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.status import ApiStatus
from appliance.embedded.apiserver.store.history import Change
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.verbs import delete, writer

log = logging.getLogger(__name__)
ALWAYS = ("default", "kube-system", "sandbox-system")
RETRY = 1.0
_OPTIONS = writer.Options(manager="namespace-controller")
NAMESPACES = writer.NAMESPACES


async def ensure_namespaces(backend: Backend) -> None:
    """Creates the namespaces every cluster has, when they are missing."""
    res = backend.registry.by_key(NAMESPACES)
    assert res is not None
    for name in ALWAYS:
        if backend.store.peek(NAMESPACES, "", name) is None:
            obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await writer.create(backend, res, None, obj, _OPTIONS, []).durable()


class Emptier:
    """``listen`` is a store listener; ``run`` works until cancelled."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._store = backend.store
        self._going: set[str] = set()
        self._ending: set[str] = set()
        self._work = asyncio.Event()

    def listen(self, changes: list[Change]) -> None:
        """Wakes the task for deleting namespaces and CRDs, and for every change inside them."""
        for change in changes:
            self._note(change.record, change.kind)

    def _note(self, record: Record, kind: str) -> None:
        if record.resource in (NAMESPACES, CRDS):
            pool = self._going if record.resource == NAMESPACES else self._ending
            if kind == "DELETED":
                pool.discard(record.name)
            elif record.deleting:
                pool.add(record.name)
                self._work.set()
        elif record.namespace in self._going or record.resource in self._ending:
            self._work.set()

    def scan(self) -> None:
        """Finds what was being deleted before a restart."""
        for kind in (NAMESPACES, CRDS):
            for record in self._store.items(kind):
                self._note(record, "MODIFIED")

    async def run(self) -> None:
        """Empties until cancelled."""
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                for name in list(self._going):
                    self._empty_namespace(name)
                for name in list(self._ending):
                    self._empty_kind(name)
            except ApiStatus as status:
                log.warning("emptying: %s; trying again", status)
                await asyncio.sleep(RETRY)
                self._work.set()

    def _empty_namespace(self, name: str) -> None:
        left = False
        for resource in self._store.kinds():
            res = self._backend.registry.by_key(resource)
            for record in self._store.items(resource, name) if res is not None and res.namespaced else ():
                left = True
                self._delete(res, record)
        space = self._store.peek(NAMESPACES, "", name)
        if left or space is None or self._store.staged_in(name):
            return
        res = self._backend.registry.by_key(NAMESPACES)
        obj = space.object()
        if res is not None and obj.get("spec", {}).get("finalizers"):
            obj["spec"] = {}
            writer.restage(self._backend, res, obj, _OPTIONS)

    def _empty_kind(self, name: str) -> None:
        res = self._backend.registry.by_key(name)
        records = self._store.items(name)
        for record in records:
            self._delete(res, record)
        crd = self._store.peek(CRDS, "", name)
        kind = self._backend.registry.by_key(CRDS)
        if records or crd is None or kind is None:
            return
        obj = crd.object()
        kept = [finalizer for finalizer in obj["metadata"].get("finalizers") or () if finalizer != FINALIZER]
        if len(kept) == len(obj["metadata"].get("finalizers") or ()):
            return
        obj["metadata"]["finalizers"] = kept
        writer.restage(self._backend, kind, obj, _OPTIONS)

    def _delete(self, res: Resource | None, record: Record) -> None:
        current = self._store.peek(*record[:3])
        if res is not None and current is not None and current.uid == record.uid and not current.deleting:
            delete.begin(self._backend, res, current, {}, _OPTIONS)
