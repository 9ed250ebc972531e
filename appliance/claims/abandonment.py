"""What happens to a sandbox whose claim did not come to an end.

Writes run in tasks that are never cancelled, since a cancelled write has no outcome. A claim that ends early leaves a
task here that waits for its write and deletes what it won. Until that is done the delivery counts as abandoned, so that
nobody who sees the sandbox takes it for a delivered one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Coroutine
from typing import Any, TypeVar

from appliance.api import kinds, labels
from appliance.api.header_rules import secret_name as rules_secret
from appliance.api.structs import Sandbox
from appliance.claims import delivery
from appliance.claims.delivery import Attempt
from appliance.claims.header_rules import revision_of
from appliance.claims.pledges import Pledges
from appliance.claims.request import ClaimRequest
from appliance.kube import errors
from appliance.kube.cluster import Cluster

T = TypeVar("T")
log = logging.getLogger(__name__)

_REMEMBERED = 4096
"""Abandoned deliveries remembered; far more than can be in clean-up at once."""


class Abandonment:
    """Runs writes to their end and cleans up after claims that did not wait for them."""

    def __init__(self, cluster: Cluster, *, timeout: float, pledges: Pledges) -> None:
        self._cluster = cluster
        self._pledges = pledges
        self._timeout = timeout
        self._tasks: set[asyncio.Task[Any]] = set()
        self._locks: OrderedDict[str, None] = OrderedDict()

    def covers(self, sandbox: Sandbox) -> bool:
        """Whether the sandbox was taken by a claim that gave it up: it is about to be deleted, and is nobody's."""
        return sandbox.meta.annotations.get(labels.LOCK) in self._locks

    async def outcome(
        self, write: Coroutine[Any, Any, Sandbox | None], request: ClaimRequest, attempt: Attempt
    ) -> Sandbox | None:
        """The write's outcome. If the caller is cancelled meanwhile, what the write wins is given up.

        Raises what the write raises.
        """
        task = self._start(self._noted(write, attempt) if request.noted else write)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._remember(attempt)
            self._start(self._give_up_later(task, request))
            raise

    async def _noted(self, write: Coroutine[Any, Any, Sandbox | None], attempt: Attempt) -> Sandbox | None:
        """The write, among the pledges from before it is sent until it is known to have won nothing."""
        self._pledges.open(attempt.sandbox_id)
        try:
            sandbox = await write
        except delivery.UNKNOWN_OUTCOME:
            raise
        except errors.KubeError:
            self._pledges.close(attempt.sandbox_id)
            raise
        if sandbox is None:
            self._pledges.close(attempt.sandbox_id)
        return sandbox

    def give_up(self, sandbox: Sandbox, attempt: Attempt, request: ClaimRequest) -> asyncio.Task[None]:
        """Remove (or with ``reserve_failed`` mark) a sandbox that was taken; goes on whatever happens to the caller."""
        self._remember(attempt)
        return self._start(self._give_up(sandbox, request))

    async def drain(self) -> None:
        """Wait for everything in flight; each is bounded by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.debug("claim task ended: %r", task.exception())  # raised to the claim too, if it still listens

    def _remember(self, attempt: Attempt) -> None:
        self._locks[attempt.lock] = None
        if len(self._locks) > _REMEMBERED:
            self._locks.popitem(last=False)

    async def _give_up_later(self, write: asyncio.Task[Sandbox | None], request: ClaimRequest) -> None:
        try:
            sandbox = await write
        except errors.KubeError:
            return
        if sandbox is not None:
            await self._give_up(sandbox, request)

    async def _give_up(self, sandbox: Sandbox, request: ClaimRequest) -> None:
        done = request.reserve_failed and await self._reserve(sandbox)
        if not done:
            names = [delivery.secret_name(sandbox.name)] if request.env else []
            if request.rules is not None and (own := revision_of(request.labels, request.annotations)):
                names.append(rules_secret(sandbox.name, own))
            done = await delivery.discard(self._cluster, sandbox, timeout=self._timeout, secrets=names)
        if done:
            self._pledges.close(sandbox.meta.labels.get(labels.SANDBOX_ID, ""))

    async def _reserve(self, sandbox: Sandbox) -> bool:
        patch = {"metadata": {"labels": {labels.RESERVED_FAILED: "true"}}, "spec": {"shutdownTime": None}}
        try:
            await self._cluster.patch(kinds.SANDBOX, sandbox.namespace, sandbox.name, patch)
        except errors.KubeError as error:
            log.warning("could not reserve the failed sandbox %s: %s", sandbox.name, error)
            return False
        return True
