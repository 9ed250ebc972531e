"""SandboxClaim: takes sandboxes for whoever cannot call an API.

Event driven: a claim that found no stock is woken when a sandbox of its template becomes available, when its set
changes, and when its time is over. A claim that succeeds at once costs one status write; "Claiming" is written only
when it takes longer than half a second.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from appliance.api import kinds, labels, times
from appliance.api.conditions import ClaimPhase
from appliance.api.structs import Sandbox, SandboxClaim, SandboxClaimStatus, SandboxSet
from appliance.claims.engine import ClaimEngine
from appliance.claims.errors import ClaimError, NoStock, UpdateFailed
from appliance.claims.indexes import deliverable, pool_key, template_of
from appliance.claims.request import ClaimRequest
from appliance.controller import indexes, pod_body
from appliance.controller.claim_plan import ClaimSeen, claiming, decide, invalid, unrecorded, update_of
from appliance.controller.condition_list import as_json
from appliance.controller.world import Key, World
from appliance.kube import errors
from appliance.kube.workqueue import Requeue, WorkQueue

log = logging.getLogger(__name__)

_BATCH = 50
"""Sandboxes claimed at once for one claim."""
_SOON = 0.5
"""Seconds after which a claim in progress says so, and then how far it is."""
_RETRY = 1.0
"""Seconds before a failed attempt is repeated; doubles up to ``_RETRY_MAX``."""
_RETRY_MAX = 15.0
_TIMER_MAX = 3600.0


@dataclass
class _Course:
    """What this process knows of a claim in progress."""

    uid: str
    started: datetime
    message: str = ""
    hopeless: bool = False
    """Whether ``message`` tells of something that another sandbox cannot mend."""
    completed: set[str] = field(default_factory=set)
    """Names of sandboxes this process has delivered: not to be initialised twice, and the only ones that count."""
    delay: float = 0.0
    rest_until: float = 0.0
    """Monotonic instant before which nothing is attempted: what failed would only use up the pool."""

    def failed(self) -> float:
        """Rest, longer each time; returns the seconds."""
        self.delay = min(_RETRY_MAX, self.delay * 2 or _RETRY)
        self.rest_until = time.monotonic() + self.delay
        return self.delay


class SandboxClaimController:
    """Subscribe it before the informers run, then run its ``queue``."""

    def __init__(self, world: World, engine: ClaimEngine) -> None:
        self._world = world
        self._engine = engine
        self.queue: WorkQueue[Key] = WorkQueue(
            self.reconcile, workers=world.settings.workers, name="sandboxclaim", backoff_max=10.0, timeout=None
        )
        self._courses: dict[Key, _Course] = {}
        world.claims.subscribe(self._on_claim)
        world.sandboxes.subscribe(self._on_sandbox)
        world.sets.subscribe(self._on_set)

    # Observe --------------------------------------------------------------------------------------------------------

    def _on_claim(self, old: SandboxClaim | None, new: SandboxClaim | None) -> None:
        item = new or old
        if item is not None and (old is None or new is None or old.meta.generation != new.meta.generation):
            self.queue.add(item.key)

    def _on_sandbox(self, old: Sandbox | None, new: Sandbox | None) -> None:
        if new is None:
            return
        now = self._world.clock()
        if deliverable(new, now) and not (old is not None and deliverable(old, now)):
            self._wake(pool_key(new.namespace, template_of(new)))

    def _on_set(self, old: SandboxSet | None, new: SandboxSet | None) -> None:
        item = new or old
        if item is not None:
            self._wake(pool_key(item.namespace, item.name))

    def _wake(self, pool: str) -> None:
        for claim in self._world.claims.by_index(indexes.WAITING, pool):
            self.queue.add(claim.key)

    # Reconcile ------------------------------------------------------------------------------------------------------

    async def reconcile(self, key: Key) -> Requeue | None:
        """One step. Raises KubeError (the queue tries again)."""
        claim = self._world.claims.get(*key)
        if claim is None or claim.meta.deletion_timestamp:
            self._courses.pop(key, None)
            return None
        course = self._course(claim)
        if claim.status.phase != ClaimPhase.COMPLETED and not invalid(claim):
            unfinished = await self._complete_unrecorded(claim, course)
            if unfinished:
                return Requeue(_RETRY)
        plan = decide(self._see(claim, course))
        if plan.expired:
            await self._delete(claim)
            return None
        rest = course.rest_until - time.monotonic()
        if not plan.attempts or rest > 0:
            await self._write(claim, plan.status)
            return _soonest(plan.wait, rest if plan.attempts else None)
        retry = await self._attempt(claim, course, min(plan.attempts, _BATCH), plan.wait or 0.0)
        current = self._world.claims.get(*key)
        if current is None or current.uid != claim.uid:
            return None
        after = decide(self._see(current, course))
        if after.attempts and retry is None:
            return Requeue(0.0)
        await self._write(current, after.status)
        return _soonest(after.wait, retry if after.attempts else None)

    def _course(self, claim: SandboxClaim) -> _Course:
        course = self._courses.get(claim.key)
        if course is None or course.uid != claim.uid:
            started = times.parse_or_none(claim.status.claim_start_time) or self._world.clock()
            course = self._courses[claim.key] = _Course(claim.uid, started)
        return course

    def _see(self, claim: SandboxClaim, course: _Course) -> ClaimSeen:
        found = self._world.sets.get(claim.namespace, claim.spec.template_name)
        delivered = course.completed | {item.name for item in claim.status.claimed_sandboxes}
        return ClaimSeen(
            claim=claim,
            owned=[item for item in self._owned(claim) if item.name in delivered],
            set_exists=found is not None and not found.meta.deletion_timestamp,
            started=course.started,
            now=self._world.clock(),
            message=course.message,
            hopeless=course.hopeless,
        )

    def _owned(self, claim: SandboxClaim) -> Sequence[Sandbox]:
        """What the claim really holds: by its UID, which a new claim of the same name does not share."""
        return [
            sandbox
            for sandbox in self._world.sandboxes.by_index(indexes.OWNED, claim.uid)
            if labels.RESERVED_FAILED not in sandbox.meta.labels
            and not sandbox.meta.deletion_timestamp
            and not self._engine.abandoned(sandbox)
        ]

    # Act ------------------------------------------------------------------------------------------------------------

    async def _attempt(self, claim: SandboxClaim, course: _Course, count: int, seconds: float) -> float | None:
        """Claim ``count`` sandboxes at once; seconds until a repetition makes sense, None when all succeeded."""
        request = self._request(claim, seconds)
        tasks = [asyncio.create_task(self._engine.claim(request)) for _ in range(count)]
        try:
            pending: set[asyncio.Task[Any]] = set(tasks)
            while pending:
                done, pending = await asyncio.wait(pending, timeout=_SOON)
                course.completed.update(task.result().sandbox.name for task in done if task.exception() is None)
                if pending and not self._alive(claim):
                    break  # nobody waits any more: what is under way is given up
                if pending:
                    await self._report(claim.key, course)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if any(task.cancelled() for task in tasks):
            return _RETRY
        failures = [error for task in tasks if (error := task.exception()) is not None]
        return self._after_failures(claim, course, failures)

    def _alive(self, claim: SandboxClaim) -> bool:
        current = self._world.claims.get(*claim.key)
        return current is not None and current.uid == claim.uid and not current.meta.deletion_timestamp

    def _after_failures(self, claim: SandboxClaim, course: _Course, failures: Sequence[BaseException]) -> float | None:
        if not failures:
            course.message, course.delay = "", 0.0
            return None
        for error in failures:
            if not isinstance(error, ClaimError | errors.KubeError):
                raise error
        course.hopeless = any(isinstance(error, UpdateFailed) and not error.timed_out for error in failures)
        course.message = str(next((error for error in failures if isinstance(error, UpdateFailed)), failures[0]))
        waits = [error.retry_after for error in failures if isinstance(error, NoStock)]
        if len(waits) < len(failures):
            self._world.events.say(kinds.SANDBOXCLAIM, claim, "FailedClaim", course.message)
            return None if course.hopeless else course.failed()
        return min(waits) if claim.spec.create_on_no_stock else _TIMER_MAX  # stock that arrives wakes us

    async def _complete_unrecorded(self, claim: SandboxClaim, course: _Course) -> bool:
        """Sandboxes taken by a process that died before it could initialise them; True while one is not ready."""
        request = self._request(claim, 0.0)
        patience = course.started + times.parse_duration(claim.spec.claim_timeout)
        unfinished = False
        for sandbox in unrecorded(claim, self._owned(claim)):
            if sandbox.name in course.completed:
                continue
            if not sandbox.status.sandbox_ip and self._world.clock() < patience:
                unfinished = True
                continue
            try:
                await self._engine.complete(sandbox, request)
            except ClaimError as error:
                self._world.events.say(kinds.SANDBOXCLAIM, claim, "FailedClaim", f"{sandbox.name}: {error}")
            course.completed.add(sandbox.name)
        return unfinished

    def _request(self, claim: SandboxClaim, seconds: float) -> ClaimRequest:
        spec = claim.spec
        return ClaimRequest(
            namespace=claim.namespace,
            template=spec.template_name,
            owner=claim.uid,
            labels={**spec.labels, labels.CLAIM_NAME: claim.name},
            annotations=spec.annotations,
            env=spec.env_vars,
            shutdown_at=times.parse_or_none(spec.shutdown_time),
            pause_at=None,
            create_on_no_stock=spec.create_on_no_stock,
            skip_init=spec.skip_init_runtime or not self._has_runtime(claim),
            timeout=seconds,
            ready_timeout=times.parse_duration(spec.wait_ready_timeout).total_seconds(),
            reserve_failed=spec.reserve_failed_sandbox,
            update=update_of(claim),
        )

    def _has_runtime(self, claim: SandboxClaim) -> bool:
        """Whether sandboxes of the template have a runtime to initialise."""
        found = self._world.sets.get(claim.namespace, claim.spec.template_name)
        if found is None:
            return False
        revision = self._world.templates.get(found.namespace, found.status.current_revision)
        template = revision.spec.template if revision is not None else found.spec.template
        declared = any(runtime.name == labels.AGENT_RUNTIME for runtime in (*found.spec.runtimes, *claim.spec.runtimes))
        return declared or pod_body.wants_runtime(template or {})

    # Status ---------------------------------------------------------------------------------------------------------

    async def _report(self, key: Key, course: _Course) -> None:
        """Progress of a claim that takes longer; failing to tell it is no reason to stop."""
        claim = self._world.claims.get(*key)
        if claim is None or claim.uid != course.uid:
            return
        try:
            await self._write(claim, claiming(self._see(claim, course)))
        except errors.KubeError as error:
            log.debug("sandboxclaim %s: progress not written: %s", key, error)

    async def _write(self, claim: SandboxClaim, wanted: SandboxClaimStatus) -> None:
        if wanted == claim.status:
            return
        patch = {"metadata": {"uid": claim.uid}, "status": _as_json(wanted)}
        answer = await self._world.cluster.patch(
            kinds.SANDBOXCLAIM, claim.namespace, claim.name, patch, subresource="status"
        )
        self._world.claims.observe(answer)

    async def _delete(self, claim: SandboxClaim) -> None:
        try:
            await self._world.cluster.delete(kinds.SANDBOXCLAIM, claim.namespace, claim.name, uid=claim.uid)
        except (errors.NotFound, errors.Conflict):
            return


def _soonest(*delays: float | None) -> Requeue | None:
    present = [delay for delay in delays if delay is not None]
    return Requeue(min(_TIMER_MAX, max(0.01, min(present)))) if present else None


def _as_json(status: SandboxClaimStatus) -> dict[str, Any]:
    full: dict[str, Any] = {
        "observedGeneration": status.observed_generation,
        "phase": status.phase,
        "message": status.message,
        "claimedReplicas": status.claimed_replicas,
        "claimStartTime": status.claim_start_time,
        "completionTime": status.completion_time,
        "conditions": as_json(status.conditions),
        "claimedSandboxes": [{"name": item.name, "sandboxID": item.sandbox_id} for item in status.claimed_sandboxes],
    }
    return {key: value for key, value in full.items() if value is not None}
