"""What there is to claim, as this process sees it: sets, deliverable members, reservations, lost races."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from appliance.api.structs import Sandbox, SandboxSet
from appliance.claims import picking
from appliance.claims.errors import TemplateNotFound
from appliance.claims.indexes import POOL_INDEX, deliverable, pool_key
from appliance.claims.request import ClaimRequest
from appliance.kube.informer import Informer

_STALE_WAIT = 1.0
"""Seconds to wait for the watch when every known candidate was lost, before the pool counts as empty."""


class Stock:
    """Chooses candidates from the caches; never waits for anything but news."""

    def __init__(
        self,
        sandboxes: Informer[Sandbox],
        sets: Informer[SandboxSet],
        *,
        candidates: int,
        clock: Callable[[], datetime],
    ) -> None:
        self._sandboxes = sandboxes
        self._sets = sets
        self._candidates = candidates
        self._clock = clock
        self._reservations = picking.Reservations()
        self._lost: dict[str, str] = {}
        """Uid → version at which a claim lost it: not worth another try until something newer is known."""
        self.close = sandboxes.subscribe(self._on_sandbox)
        """Stop listening."""

    def count(self, namespace: str, template: str) -> int:
        """How many sandboxes of a template could be delivered now."""
        return len(self._sandboxes.by_index(POOL_INDEX, pool_key(namespace, template)))

    def sets_of(self, request: ClaimRequest) -> list[SandboxSet]:
        """The sets that stand for the template. Raises TemplateNotFound."""
        if request.namespace is not None:
            one = self._sets.get(request.namespace, request.template)
            found = [one] if one is not None else []
        else:
            found = [item for item in self._sets.items() if item.name == request.template]
        alive = [item for item in found if not item.meta.deletion_timestamp]
        if not alive:
            raise TemplateNotFound(request.template, request.namespace)
        return alive

    async def candidate(self, request: ClaimRequest) -> Sandbox | None:
        """The next sandbox to try; None when the pool is empty.

        While all that is there is being tried by other claims of this process, or was just lost, wait for news.
        """
        while True:
            targets = self.sets_of(request)
            keys = (pool_key(target.namespace, target.name) for target in targets)
            pool = [sandbox for key in keys for sandbox in self._sandboxes.by_index(POOL_INDEX, key)]
            revisions = frozenset(target.status.update_revision for target in targets)
            chosen = picking.choose(pool, revisions, free=self._free, now=self._clock(), limit=self._candidates)
            if chosen is not None or not await self._moved(pool):
                return chosen

    @contextmanager
    def trying(self, sandbox: Sandbox) -> Iterator[None]:
        """Keep a candidate from the other claims of this process while its write is under way."""
        with self._reservations.hold(sandbox):
            yield

    def lost(self, candidate: Sandbox) -> None:
        """Somebody else was faster: not to be tried again as it is; forgotten with the next news about it."""
        known = self._sandboxes.get(candidate.namespace, candidate.name)
        if known is not None and known.uid == candidate.uid:
            self._lost[candidate.uid] = candidate.meta.resource_version

    def _free(self, sandbox: Sandbox) -> bool:
        lost = self._lost.get(sandbox.uid) == sandbox.meta.resource_version
        return not lost and sandbox not in self._reservations

    async def _moved(self, pool: Sequence[Sandbox]) -> bool:
        """No candidate is free. False if that is because there is none; else wait until one may be, and True."""
        now = self._clock()
        present = [sandbox for sandbox in pool if deliverable(sandbox, now)]
        if not present:
            return False
        if any(sandbox in self._reservations for sandbox in present):
            await self._reservations.changed()
            return True
        try:
            async with asyncio.timeout(_STALE_WAIT):
                await self._reservations.changed()
        except TimeoutError:
            return False
        return True

    def _on_sandbox(self, old: Sandbox | None, new: Sandbox | None) -> None:
        """News about a sandbox that a claim lost makes it worth another look; nothing else matters here."""
        current = new or old
        if current is None or not self._lost:
            return
        lost = self._lost.get(current.uid)
        if lost is not None and (new is None or new.meta.resource_version != lost):
            del self._lost[current.uid]
            self._reservations.wake()
