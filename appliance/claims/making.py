"""A sandbox of its own for a claim that found no stock: a turn in line, the creation, the wait until it is ready."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

from appliance.api import conditions, kinds
from appliance.api.conditions import Phase
from appliance.api.structs import Sandbox, SandboxSet
from appliance.claims import delivery, header_rules
from appliance.claims.abandonment import Abandonment
from appliance.claims.delivery import Attempt
from appliance.claims.errors import NoStock, SandboxFailed, TemplateNotFound, UpdateFailed
from appliance.claims.ledger import Course
from appliance.claims.request import ClaimRequest
from appliance.claims.stock import Stock
from appliance.claims.taken import Taken
from appliance.claims.updating import Updater, start_failure
from appliance.config import ClaimSettings
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

_REVISION_WAIT = 5.0
"""Seconds for the controller to make the first revision of a new set."""


class Maker:
    """Makes sandboxes for claims of one engine; see ``make``."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        sandboxes: Informer[Sandbox],
        sets: Informer[SandboxSet],
        settings: ClaimSettings,
        stock: Stock,
        abandonment: Abandonment,
        updater: Updater,
        clock: Callable[[], datetime],
    ) -> None:
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._sets = sets
        self._settings = settings
        self._stock = stock
        self._abandonment = abandonment
        self._updater = updater
        self._clock = clock
        self._turns = asyncio.Semaphore(settings.max_create_in_flight)
        self._waiting = 0

    async def make(self, request: ClaimRequest, course: Course) -> Taken:
        """A sandbox of its own for this claim; raises NoStock, SandboxFailed."""
        if not request.create_on_no_stock:
            raise NoStock(f"template {request.template!r} has no available sandbox", 1.0)
        await self._turn(request, course)
        try:
            return await self._make_one(request, course)
        finally:
            self._turns.release()

    async def _turn(self, request: ClaimRequest, course: Course) -> None:
        """Wait in line to make one, first come first served; raises NoStock when the line is too long or too slow."""
        full = f"template {request.template!r} has no available sandbox and {self._settings.max_create_in_flight} are"
        if self._turns.locked() and self._waiting >= self._settings.max_create_waiting:
            raise NoStock(f"{full} being made", 2.0)
        course.stage, begun = "waiting in line to create a sandbox", time.perf_counter()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._settings.create_wait):
                await self._turns.acquire()
        except TimeoutError:
            raise NoStock(f"{full} being made", 2.0) from None
        finally:
            self._waiting -= 1
            course.queued += time.perf_counter() - begun

    async def _make_one(self, request: ClaimRequest, course: Course) -> Taken:
        owner = await self._with_revision(request)
        attempt, grace = Attempt(), self._grace(request)
        patch = delivery.claim_patch(request.later(grace), attempt, self._clock())
        if request.update is not None:
            revision = owner.status.current_revision
            patch["spec"] |= await self._updater.divergence(owner.namespace, revision, request.update)
        course.stage, course.picked, course.lock = "creating a sandbox", time.perf_counter(), attempt.lock
        sandbox = None
        while sandbox is None:
            write = delivery.make(self._cluster, owner, patch, attempt.lock, timeout=self._settings.cleanup_timeout)
            sandbox = await self._abandonment.outcome(write, request, attempt)
        course.written = time.perf_counter()
        course.stage = "waiting for a new sandbox to become ready"
        try:
            self._sandboxes.observe(sandbox)
            if request.rules is not None and (own := header_rules.revision(sandbox)):
                await header_rules.keep_rules(self._cluster, sandbox, own, request.rules)  # its pod comes up with them
            ready = await self._until_ready(sandbox, request)
            if grace:
                ready = await self._begin_life(ready, request, time.perf_counter() - course.started)
        except BaseException:
            self._abandonment.give_up(sandbox, attempt, request)
            raise
        course.ready = time.perf_counter()
        return Taken(ready, attempt, "created")

    def _grace(self, request: ClaimRequest) -> float:
        """Seconds that a life is made longer which might be over before the sandbox is ready; 0 for all others."""
        first = min((end for end in (request.shutdown_at, request.pause_at) if end is not None), default=None)
        limit = request.ready_timeout or self._settings.ready_timeout
        if first is None or not request.life_from_delivery:
            return 0.0
        return limit if (first - self._clock()).total_seconds() < limit else 0.0

    async def _begin_life(self, sandbox: Sandbox, request: ClaimRequest, waited: float) -> Sandbox:
        """Take the grace back: the life that was asked for begins now. Nobody else knows the sandbox yet."""
        patch = {"spec": delivery.timers(request.later(waited))}
        begun = await self._cluster.patch(kinds.SANDBOX, sandbox.namespace, sandbox.name, patch)
        self._sandboxes.observe(begun)
        return begun

    async def _with_revision(self, request: ClaimRequest) -> SandboxSet:
        """A set of the template whose controller has made a revision; a set that was just applied is waited for."""
        sets = self._stock.sets_of(request)
        owner = next((item for item in sets if item.status.current_revision), sets[0])
        try:
            found = await self._sets.wait_for(owner.namespace, owner.name, _has_revision, _REVISION_WAIT)
        except TimeoutError as error:
            raise NoStock(f"template {request.template!r} has no revision yet", 1.0) from error
        if found is None:
            raise TemplateNotFound(request.template, request.namespace)
        return found

    async def _until_ready(self, sandbox: Sandbox, request: ClaimRequest) -> Sandbox:
        limit = request.ready_timeout or self._settings.ready_timeout
        try:
            settled = _settled if request.update is None else _settled_or_stuck
            found = await self._sandboxes.wait_for(sandbox.namespace, sandbox.name, settled, limit)
        except TimeoutError as error:
            last = self._sandboxes.get(sandbox.namespace, sandbox.name)
            said = f": {last.status.message}" if last is not None and last.status.message else ""
            raise NoStock(f"a new sandbox of {request.template!r} was not ready in {limit:g} s{said}", 5.0) from error
        if found is None or found.uid != sandbox.uid or found.meta.deletion_timestamp:
            raise SandboxFailed(f"the new sandbox {sandbox.name} was deleted before it was ready")
        if found.status.phase in (Phase.FAILED, Phase.SUCCEEDED):
            raise SandboxFailed(f"the new sandbox {sandbox.name} failed: {found.status.message or 'no reason given'}")
        if request.update is not None and (stuck := start_failure(found)):
            raise UpdateFailed(f"{request.update}: {stuck}")
        return found


def _has_revision(item: SandboxSet | None) -> bool:
    return item is None or bool(item.status.current_revision)


def _settled_or_stuck(sandbox: Sandbox | None) -> bool:
    """The same for one whose image a claim chose: what keeps it from starting is the claim's own doing."""
    return _settled(sandbox) or (sandbox is not None and bool(start_failure(sandbox)))


def _settled(sandbox: Sandbox | None) -> bool:
    """Whether waiting for readiness has an answer, good or bad."""
    if sandbox is None or sandbox.meta.deletion_timestamp:
        return True
    if sandbox.status.phase in (Phase.FAILED, Phase.SUCCEEDED):
        return True
    ready = conditions.is_true(sandbox.status.conditions, conditions.READY)
    return sandbox.status.phase == Phase.RUNNING and ready and bool(sandbox.status.sandbox_ip)
