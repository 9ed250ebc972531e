"""The claim, from top to bottom: choose, write, personalise, answer.

What bounds the speed of claims elsewhere is the number of writes, retries with back-off, and creations while stock is
there. So: one guarded write and no re-read; after a lost race the next candidate at once; a creation only when no
candidate exists, not when all are merely being tried by neighbours in this process (then the claim waits for them).

What makes claims leak elsewhere is a client that gives up. Here every write runs in a task of its own that is never
cancelled, and whoever abandons a claim leaves behind a clean-up that waits for that task and deletes what it won.
``drain`` waits for these at shutdown.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, TypeVar

from appliance.api import conditions, labels, times
from appliance.api.conditions import Phase
from appliance.api.ids import access_token
from appliance.api.structs import Sandbox, SandboxSet
from appliance.claims import delivery
from appliance.claims.abandonment import Abandonment
from appliance.claims.delivery import Attempt
from appliance.claims.errors import ClaimTimeout, InitFailed, NoStock, SandboxFailed, TemplateNotFound, UpdateFailed
from appliance.claims.ledger import Course, Ledger
from appliance.claims.personalise import init_body, personalise
from appliance.claims.request import Claimed, ClaimRequest, Timings
from appliance.claims.runtime_client import RuntimeClient
from appliance.claims.stock import Stock
from appliance.claims.updating import Updater, start_failure
from appliance.config import ClaimSettings
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

T = TypeVar("T")
log = logging.getLogger(__name__)

_DELIVERIES = 3
"""Sandboxes tried when a runtime turns out to be broken, before the claim fails."""
_REVISION_WAIT = 5.0
"""Seconds for the controller to make the first revision of a new set."""


@dataclass(frozen=True)
class _Taken:
    sandbox: Sandbox
    attempt: Attempt
    how: Literal["pool", "created"]


class ClaimEngine:
    """Delivers sandboxes; one per process, used concurrently. See ``claim``."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        sandboxes: Informer[Sandbox],
        sets: Informer[SandboxSet],
        settings: ClaimSettings,
        seed: bytes,
        clock: Callable[[], datetime] = times.now,
        runtime: RuntimeClient | None = None,
    ) -> None:
        """``sandboxes`` must have ``indexes.SANDBOX_INDEXES``. ``clock`` gives the present as an aware datetime."""
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._sets = sets
        self._settings = settings
        self._seed = seed
        self._clock = clock
        self._runtime = runtime or RuntimeClient()
        self._slots = asyncio.Semaphore(settings.writes_in_flight)
        self._making = asyncio.Semaphore(settings.max_create_in_flight)
        self._waiting = 0
        self._stock = Stock(sandboxes, sets, candidates=settings.candidates, clock=clock)
        self._abandonment = Abandonment(cluster, timeout=settings.cleanup_timeout)
        self._updater = Updater(cluster, sandboxes, timeout=settings.ready_timeout)
        self.ledger = Ledger(clock)
        """Where the time of the last claims went, and what is on its way."""
        self.outcomes: Counter[str] = Counter()
        """Claims by outcome: ``pool``, ``created``, or the name of the error; and ``conflicts``."""

    async def claim(self, request: ClaimRequest) -> Claimed:
        """Deliver one sandbox.

        Raises TemplateNotFound, NoStock, ClaimTimeout, SandboxFailed, InitFailed or KubeError. Then, and also when
        the caller is cancelled at any await, the sandbox that was taken is deleted (in the background, within
        ``cleanup_timeout``).
        """
        with self.ledger.course(request) as course:
            try:
                async with asyncio.timeout(request.timeout):
                    claimed = await self._claim(request, course)
            except TimeoutError as error:
                self.outcomes["ClaimTimeout"] += 1
                limit = f"within {request.timeout:g} s (while {course.stage})"
                raise ClaimTimeout(f"no sandbox of template {request.template!r} {limit}") from error
            except BaseException as error:
                self.outcomes[type(error).__name__] += 1
                raise
        self.outcomes[claimed.how] += 1
        self.ledger.delivered(course, claimed)
        return claimed

    async def drain(self) -> None:
        """Wait for clean-ups in flight; bounded by their own limits. No claim may be started afterwards."""
        self._stock.close()
        await self._abandonment.drain()

    def stock(self, namespace: str, template: str) -> int:
        """How many sandboxes of a template could be delivered now."""
        return self._stock.count(namespace, template)

    def abandoned(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox was taken by a claim that gave it up: it is about to be deleted, and is nobody's."""
        return self._abandonment.covers(sandbox)

    # The course of a claim ------------------------------------------------------------------------------------------

    async def _claim(self, request: ClaimRequest, course: Course) -> Claimed:
        failure: InitFailed | None = None
        for deliveries_left in reversed(range(_DELIVERIES)):
            try:
                taken = await self._take(request, course)
            except NoStock as empty:
                raise failure or empty from None
            try:
                token = await self._personalise(taken, request, course)
            except InitFailed as error:
                cleaning = self._abandonment.give_up(taken.sandbox, taken.attempt, request)
                log.warning("sandbox %s/%s not delivered: %s", taken.sandbox.namespace, taken.sandbox.name, error)
                failure = error
                if not deliveries_left or error.refused or request.reserve_failed:
                    await asyncio.shield(cleaning)
                    raise
            except BaseException:
                self._abandonment.give_up(taken.sandbox, taken.attempt, request)
                raise
            else:
                return self._answer(taken, token, course)
        raise AssertionError("the last delivery returns or raises")

    async def _take(self, request: ClaimRequest, course: Course) -> _Taken:
        """A pool member if there is one, else a sandbox made for this claim."""
        course.stage, begun = "picking", time.perf_counter()
        taken = None
        async with self._slots:
            course.queued += time.perf_counter() - begun
            while taken is None and (candidate := await self._stock.candidate(request)) is not None:
                taken = await self._take_member(candidate, request, course)
        return await self._make(request, course) if taken is None else await self._updated(taken, request, course)

    async def _take_member(self, candidate: Sandbox, request: ClaimRequest, course: Course) -> _Taken | None:
        attempt = Attempt()
        patch = delivery.claim_patch(request, attempt, self._clock())
        course.stage, course.picked, course.lock = "writing", time.perf_counter(), attempt.lock
        with self._stock.trying(candidate):
            if request.update is not None and candidate.spec.template_ref is not None:
                name = candidate.spec.template_ref.name
                patch["spec"] |= await self._updater.divergence(candidate.namespace, name, request.update)
            write = delivery.take(self._cluster, candidate, patch, attempt.lock, timeout=self._settings.cleanup_timeout)
            sandbox = await self._abandonment.outcome(write, request, attempt)
            if sandbox is not None:
                self._sandboxes.observe(sandbox)
            else:
                self._stock.lost(candidate)
        course.written = course.ready = time.perf_counter()
        if sandbox is None:
            course.conflicts += 1
            self.outcomes["conflicts"] += 1
            return None
        return _Taken(sandbox, attempt, "pool")

    async def _updated(self, taken: _Taken, request: ClaimRequest, course: Course) -> _Taken:
        """The sandbox once it has the image and resources asked for; one that cannot get them is given up.

        Raises UpdateFailed, SandboxFailed.
        """
        if request.update is None or taken.sandbox.spec.template is None:
            return taken
        course.stage = f"waiting for {request.update}"
        try:
            sandbox = await self._updater.settle(taken.sandbox, request.update, request.ready_timeout)
        except BaseException:
            self._abandonment.give_up(taken.sandbox, taken.attempt, request)
            raise
        course.ready = time.perf_counter()
        return replace(taken, sandbox=sandbox)

    async def _personalise(self, taken: _Taken, request: ClaimRequest, course: Course) -> str | None:
        """Everything after the write; returns the access token the runtime now demands, if any."""
        course.stage = "initialising the runtime"
        token = access_token(self._seed, taken.attempt.sandbox_id) if request.secure and not request.skip_init else None
        body = init_body(token, request.env, taken.sandbox, taken.attempt.sandbox_id)
        await personalise(
            self._cluster,
            self._runtime,
            taken.sandbox,
            body=None if request.skip_init else body,
            token=token,
            env=request.env,
            user_labels=request.labels,
            init_timeout=self._settings.init_timeout,
        )
        return token

    async def complete(self, sandbox: Sandbox, request: ClaimRequest) -> None:
        """Personalise a sandbox that was taken for this request by a process that died before it could.

        Safe to repeat: the token follows from the sandbox's id. Raises InitFailed or KubeError, and then the sandbox
        stays; UpdateFailed, and then it is given up.
        """
        attempt = Attempt(sandbox.meta.labels.get(labels.SANDBOX_ID, ""), sandbox.meta.annotations.get(labels.LOCK, ""))
        course = Course(request)
        taken = _Taken(sandbox, attempt, "pool")
        made = labels.PRIORITY in sandbox.meta.annotations  # with its template from birth: nothing is changed in place
        await self._personalise(taken if made else await self._updated(taken, request, course), request, course)

    def _answer(self, taken: _Taken, token: str | None, course: Course) -> Claimed:
        end = time.perf_counter()
        timings = Timings(
            queue=course.queued,
            pick=max(0.0, course.picked - course.started - course.queued),
            write=course.written - course.picked,
            ready=course.ready - course.written,
            personalise=end - course.ready,
            total=end - course.started,
            conflicts=course.conflicts,
        )
        sandbox_id = taken.attempt.sandbox_id
        return Claimed(sandbox=taken.sandbox, sandbox_id=sandbox_id, access_token=token, how=taken.how, timings=timings)

    # Making ---------------------------------------------------------------------------------------------------------

    async def _make(self, request: ClaimRequest, course: Course) -> _Taken:
        """A sandbox of its own for this claim; raises NoStock, SandboxFailed."""
        if not request.create_on_no_stock:
            raise NoStock(f"template {request.template!r} has no available sandbox", 1.0)
        await self._turn(request, course)
        try:
            return await self._make_one(request, course)
        finally:
            self._making.release()

    async def _turn(self, request: ClaimRequest, course: Course) -> None:
        """Wait in line to make one, first come first served; raises NoStock when the line is too long or too slow."""
        full = f"template {request.template!r} has no available sandbox and {self._settings.max_create_in_flight} are"
        if self._making.locked() and self._waiting >= self._settings.max_create_waiting:
            raise NoStock(f"{full} being made", 2.0)
        course.stage, begun = "waiting in line to create a sandbox", time.perf_counter()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._settings.create_wait):
                await self._making.acquire()
        except TimeoutError:
            raise NoStock(f"{full} being made", 2.0) from None
        finally:
            self._waiting -= 1
            course.queued += time.perf_counter() - begun

    async def _make_one(self, request: ClaimRequest, course: Course) -> _Taken:
        owner = await self._with_revision(request)
        attempt = Attempt()
        patch = delivery.claim_patch(request, attempt, self._clock())
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
            ready = await self._until_ready(sandbox, request)
        except BaseException:
            self._abandonment.give_up(sandbox, attempt, request)
            raise
        course.ready = time.perf_counter()
        return _Taken(ready, attempt, "created")

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
