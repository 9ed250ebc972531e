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
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from appliance.api import labels, times
from appliance.api.ids import access_token
from appliance.api.structs import Sandbox, SandboxSet
from appliance.claims import delivery
from appliance.claims.abandonment import Abandonment
from appliance.claims.delivery import Attempt
from appliance.claims.errors import ClaimTimeout, InitFailed, NoStock
from appliance.claims.header_rules import keep_rules, revision
from appliance.claims.ledger import Course, Ledger
from appliance.claims.making import Maker
from appliance.claims.personalise import init_body, personalise
from appliance.claims.pledges import Pledges
from appliance.claims.request import Claimed, ClaimRequest, Timings
from appliance.claims.runtime_client import RuntimeClient
from appliance.claims.stock import Stock
from appliance.claims.taken import Taken
from appliance.claims.updating import Updater
from appliance.config import ClaimSettings
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

T = TypeVar("T")
log = logging.getLogger(__name__)

_DELIVERIES = 3
"""Sandboxes tried when a runtime turns out to be broken, before the claim fails."""


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
        pledges: Pledges | None = None,
    ) -> None:
        """``sandboxes`` must have ``indexes.SANDBOX_INDEXES``. ``clock`` gives the present as an aware datetime.

        ``pledges`` remember deliveries under way beyond the process's death; whoever answers a claim closes its own.
        """
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._settings = settings
        self._seed = seed
        self._clock = clock
        self._runtime = runtime or RuntimeClient()
        self._slots = asyncio.Semaphore(settings.writes_in_flight)
        self._stock = Stock(sandboxes, sets, candidates=settings.candidates, clock=clock)
        self._abandonment = Abandonment(cluster, timeout=settings.cleanup_timeout, pledges=pledges or Pledges())
        self._updater = Updater(cluster, sandboxes, timeout=settings.ready_timeout)
        self.ledger = Ledger(clock)
        """Where the time of the last claims went, and what is on its way."""
        self._maker = Maker(
            cluster, sandboxes=sandboxes, sets=sets, settings=settings, stock=self._stock,
            abandonment=self._abandonment, updater=self._updater, clock=clock,
        )  # fmt: skip
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
            finally:
                if taken.line is not None:
                    taken.line.hang_up()
        raise AssertionError("the last delivery returns or raises")

    async def _take(self, request: ClaimRequest, course: Course) -> Taken:
        """A pool member if there is one, else a sandbox made for this claim."""
        course.stage, begun = "picking", time.perf_counter()
        taken = None
        async with self._slots:
            course.queued += time.perf_counter() - begun
            while taken is None and (candidate := await self._stock.candidate(request)) is not None:
                taken = await self._take_member(candidate, request, course)
        return await self._maker.make(request, course) if taken is None else await self._updated(taken, request, course)

    async def _take_member(self, candidate: Sandbox, request: ClaimRequest, course: Course) -> Taken | None:
        attempt = Attempt()
        patch = delivery.claim_patch(request, attempt, self._clock())
        course.stage, course.picked, course.lock = "writing", time.perf_counter(), attempt.lock
        with ExitStack() as undo, self._stock.trying(candidate):
            if request.update is not None and candidate.spec.template_ref is not None:
                name = candidate.spec.template_ref.name
                patch["spec"] |= await self._updater.divergence(candidate.namespace, name, request.update)
            line = None
            if not request.skip_init and request.update is None:  # an update starts another runtime
                line = self._runtime.dial(candidate.status.sandbox_ip)
                undo.callback(line.hang_up)
            write = delivery.take(self._cluster, candidate, patch, attempt.lock, timeout=self._settings.cleanup_timeout)
            sandbox = await self._abandonment.outcome(write, request, attempt)
            if sandbox is not None:
                self._sandboxes.observe(sandbox)
                undo.pop_all()
            else:
                self._stock.lost(candidate)
        course.written = course.ready = time.perf_counter()
        if sandbox is None:
            course.conflicts += 1
            self.outcomes["conflicts"] += 1
            return None
        return Taken(sandbox, attempt, "pool", line)

    async def _updated(self, taken: Taken, request: ClaimRequest, course: Course) -> Taken:
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

    async def _personalise(self, taken: Taken, request: ClaimRequest, course: Course) -> str | None:
        """Everything after the write; returns the access token the runtime now demands, if any."""
        course.stage = "initialising the runtime"
        token = access_token(self._seed, taken.attempt.sandbox_id) if request.secure and not request.skip_init else None
        rules, own = request.rules, revision(taken.sandbox)
        if rules is not None and own:
            rules = await keep_rules(self._cluster, taken.sandbox, own, rules)
        body = init_body(token, request.env, taken.sandbox, taken.attempt.sandbox_id, rules)
        await personalise(
            self._cluster,
            self._runtime,
            taken.sandbox,
            body=None if request.skip_init else body,
            token=token,
            env=request.env,
            user_labels=request.labels,
            init_timeout=self._settings.init_timeout,
            line=taken.line,
        )
        return token

    async def complete(self, sandbox: Sandbox, request: ClaimRequest) -> None:
        """Personalise a sandbox that was taken for this request by a process that died before it could.

        Safe to repeat: the token follows from the sandbox's id. Raises InitFailed or KubeError, and then the sandbox
        stays; UpdateFailed, and then it is given up.
        """
        attempt = Attempt(sandbox.meta.labels.get(labels.SANDBOX_ID, ""), sandbox.meta.annotations.get(labels.LOCK, ""))
        course = Course(request)
        taken = Taken(sandbox, attempt, "pool")
        made = labels.PRIORITY in sandbox.meta.annotations  # with its template from birth: nothing is changed in place
        await self._personalise(taken if made else await self._updated(taken, request, course), request, course)

    def _answer(self, taken: Taken, token: str | None, course: Course) -> Claimed:
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
