"""Leader election on a Lease: of many processes with one lease name, at most one acts.

A candidate takes the lease when nobody holds it, or when the holder has not renewed it for as long as the lease says.
How long that was is measured here, from the moment *this* process saw the last change: clocks of machines are never
compared. Every write carries the resourceVersion it saw, so two candidates cannot both win. The holder stops being
the leader, in its own eyes, ``renew_deadline`` seconds after its last successful renewal, which is before any other
can take over (``duration``): the gap is the time that the leader's work has to stop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from appliance.api import times
from appliance.api.corestructs import Lease
from appliance.api.kinds import LEASE
from appliance.kube import errors
from appliance.kube.clock import Clock, LoopClock, sleep
from appliance.kube.cluster import Cluster

log = logging.getLogger(__name__)


class LeadershipLost(Exception):
    """The lease could not be renewed in time, or somebody else has it."""


class LeaderElection:
    """One candidate. Seconds throughout; ``retry < renew_deadline < duration``."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        name: str,
        identity: str,
        *,
        duration: float = 15.0,
        renew_deadline: float = 10.0,
        retry: float = 2.0,
        clock: Clock | None = None,
    ) -> None:
        if not 0 < retry < renew_deadline < duration:
            raise ValueError(
                "retry, renew_deadline, duration: expected 0 < retry < renew_deadline < duration, "
                f"got {retry}, {renew_deadline}, {duration}"
            )
        if not identity:
            raise ValueError("identity: expected a name unique to this process, got an empty string")
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._duration = duration
        self._renew_deadline = renew_deadline
        self._retry = retry
        self._clock = clock or LoopClock()
        self._seen: tuple[str, float] | None = None
        """Version of the lease and the instant at which this process first saw it."""
        self._renewed_at = 0.0
        self._keeper: asyncio.Task[None] | None = None
        self.lost = asyncio.Event()
        """Set when leadership that had been won is over."""

    @property
    def is_leader(self) -> bool:
        """Whether this process may act right now."""
        fresh = self._clock.now() - self._renewed_at < self._renew_deadline
        return self._keeper is not None and not self.lost.is_set() and fresh

    async def run(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Wait for leadership, run ``callback`` while it lasts, then give the lease back.

        Returns when the callback does. Raises LeadershipLost after cancelling the callback when the lease is lost.
        """
        async with self:
            work = asyncio.ensure_future(callback())
            lost = asyncio.ensure_future(self.lost.wait())
            try:
                await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    raise LeadershipLost(f"lease {self._namespace}/{self._name}: not renewed in time")
                await work
            finally:
                lost.cancel()
                work.cancel()
                await asyncio.gather(work, lost, return_exceptions=True)

    async def __aenter__(self) -> LeaderElection:
        """Wait until this process is the leader; renew in the background from then on."""
        self.lost.clear()
        while not await self._attempt():
            await sleep(self._clock, self._retry)
        log.info("leader of %s/%s as %s", self._namespace, self._name, self._identity)
        self._keeper = asyncio.create_task(self._keep(), name=f"lease {self._name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop renewing and, if still the leader, give the lease back so that the next one need not wait."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        if not self.lost.is_set():
            await self._release()

    async def _keep(self) -> None:
        """Renew every ``retry`` seconds; give up when that did not succeed for ``renew_deadline``."""
        while True:
            await sleep(self._clock, self._retry)
            left = self._renewed_at + self._renew_deadline - self._clock.now()
            try:
                async with asyncio.timeout(max(0.0, left)):
                    renewed = await self._attempt()
            except TimeoutError:
                renewed = False
            if not renewed and (self._taken_by_other or self._clock.now() - self._renewed_at >= self._renew_deadline):
                log.warning("lost the lease %s/%s", self._namespace, self._name)
                self.lost.set()
                return

    _taken_by_other = False

    async def _attempt(self) -> bool:
        """One try to take or renew; False when it failed or somebody else holds the lease."""
        started = self._clock.now()  # the instant of sending: the server's own may only be later
        try:
            won = await self._take_or_renew()
        except errors.KubeError as error:
            log.info("lease %s/%s: %s", self._namespace, self._name, error)
            return False
        if won:
            self._renewed_at = started
        return won

    async def _take_or_renew(self) -> bool:
        try:
            lease = await self._cluster.get(LEASE, self._namespace, self._name)
        except errors.NotFound:
            body = {"metadata": {"name": self._name}, "spec": self._spec(None)}
            await self._cluster.create(LEASE, self._namespace, body)
            return True
        version = lease.meta.resource_version
        if self._seen is None or self._seen[0] != version:
            self._seen = (version, self._clock.now())
        holder = lease.spec.holder_identity
        self._taken_by_other = bool(holder) and holder != self._identity
        if self._taken_by_other:
            term = float(lease.spec.lease_duration_seconds or self._duration)
            if self._clock.now() - self._seen[1] < term:
                return False
        patch = {"spec": self._spec(lease)}
        await self._cluster.patch(LEASE, self._namespace, self._name, patch, resource_version=version)
        self._taken_by_other = False
        return True

    def _spec(self, previous: Lease | None) -> dict[str, Any]:
        stamp = times.format(times.now(), micro=True)
        mine = previous is not None and previous.spec.holder_identity == self._identity
        transitions = 0 if previous is None else previous.spec.lease_transitions + (0 if mine else 1)
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": max(1, round(self._duration)),
            "acquireTime": previous.spec.acquire_time if mine and previous else stamp,
            "renewTime": stamp,
            "leaseTransitions": transitions,
        }

    async def _release(self) -> None:
        """Best effort, bounded by the request's deadline; an unreleased lease just takes ``duration`` to expire."""
        try:
            lease = await self._cluster.get(LEASE, self._namespace, self._name)
            if lease.spec.holder_identity == self._identity:
                patch = {"spec": {"holderIdentity": None, "leaseDurationSeconds": 1}}
                version = lease.meta.resource_version
                await self._cluster.patch(LEASE, self._namespace, self._name, patch, resource_version=version)
        except errors.KubeError as error:
            log.info("lease %s/%s not released: %s", self._namespace, self._name, error)
