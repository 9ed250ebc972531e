"""What may happen to a delivered sandbox, and how: pause, resume, deadlines, kill (the table of contract §1.10).

Every change is one merge patch guarded by the version it was decided on; when somebody was faster, it is decided anew
on what they made of it. So concurrent requests, in this process or another replica, need no locks: two pauses find the
same ``spec.paused`` and wait for the same end, a connect that shrinks a life longer by then changes nothing.

Waits are for informer events, bounded, and end early when the sandbox dies. A client that goes away in the middle
leaves the sandbox on its way to the asked-for state, never between two writes, since there is only one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from appliance.api import times
from appliance.api.labels import E2B_LIFECYCLE
from appliance.api.structs import Sandbox
from appliance.claims.errors import InitFailed
from appliance.claims.personalise import dress_pod
from appliance.kube.cluster import Cluster
from appliance.kube.errors import KubeError, NotFound
from appliance.kube.informer import Informer
from appliance.manager import deadlines, network, options
from appliance.manager.bodies import NetworkUpdate
from appliance.manager.deadlines import Timers
from appliance.manager.errors import Fault, sandbox_not_found
from appliance.manager.metadata import retention_annotation
from appliance.manager.options import options_of
from appliance.manager.roster import Entry, Roster, sandbox_id_of
from appliance.manager.runstate import Run, is_paused, is_ready, pause_failure
from appliance.manager.transitions import Transitions, delete

logger = logging.getLogger(__name__)

PAUSE_WAIT = 60.0
"""Seconds a pause may take before the client is told that it takes longer."""
RESUME_WAIT = 120.0
"""Seconds a resume may take: with the strategy Stop a new pod is made."""


class Lifecycle:
    """Actions on delivered sandboxes. Each raises Fault (404, 409, 503, 504) or KubeError."""

    def __init__(
        self, cluster: Cluster, sandboxes: Informer[Sandbox], roster: Roster, *, now: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._moves = Transitions(cluster, sandboxes, roster, now=now)
        self._roster = roster
        self._now = now
        self._kills: set[asyncio.Task[None]] = set()

    async def pause(self, entry: Entry, *, retention: timedelta | None = None) -> None:
        """Pause and wait until it is done; joins a pause under way. 409 when paused already or resuming.

        ``retention``: how long it is kept while paused, from now on; None leaves what it was made with.
        A pause that the controller reports as failed is taken back, and raised as Fault 500 with its reason.
        """
        before = deadlines.timers_of(entry.sandbox)
        sandbox = await self._moves.change(entry.sandbox, partial(self._pause_patch, retention=retention))
        failed = partial(pause_failure, since=sandbox.meta.generation)

        def settled(one: Sandbox) -> bool:
            return is_paused(one) or failed(one) is not None

        sandbox = await self._moves.wait(sandbox, settled, PAUSE_WAIT, "pause")
        reason = failed(sandbox)
        if reason is not None and not is_paused(sandbox):
            await self._moves.change(sandbox, lambda *_: {"spec": {"paused": False, **before.patch()}})
            raise Fault(500, f'Sandbox "{entry.sandbox_id}" could not be paused: {reason}')

    async def connect(self, entry: Entry, timeout: float) -> bool:
        """Make it run for at least ``timeout`` seconds from now; True when it had to be resumed."""
        if self._roster.run_of(entry) is Run.RUNNING:
            try:
                await self._extend(entry.sandbox, timeout)
                return False
            except _NotRunning:
                pass
        await self.resume(entry, timeout)
        return True

    async def resume(self, entry: Entry, timeout: float, *, auto_pause: bool | None = None) -> None:
        """Resume, end in ``timeout`` seconds from now, and wait until it is ready; joins a resume under way.

        A pause under way is waited for. ``auto_pause`` replaces the setting of the creation when given.
        """
        joined = False

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            nonlocal joined
            joined = run in (Run.RUNNING, Run.RESUMING)
            return None if joined else self._resume_patch(sandbox, run, timeout, auto_pause)

        if self._roster.run_of(entry) is Run.PAUSING:
            await self._moves.wait(entry.sandbox, _pause_over, PAUSE_WAIT, "pause")
        sandbox = await self._moves.change(entry.sandbox, decide)
        sandbox = await self._moves.wait(sandbox, is_ready, RESUME_WAIT, "resume")
        if joined:
            await self._extend(sandbox, timeout)

    async def set_timeout(self, entry: Entry, timeout: float) -> None:
        """End in ``timeout`` seconds from now, sooner or later than before. 404 unless running."""

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is not Run.RUNNING:
                raise sandbox_not_found(entry.sandbox_id)
            return {"spec": self._timers(sandbox, timeout).patch()}

        await self._moves.change(entry.sandbox, decide)

    async def refresh(self, entry: Entry, duration: float) -> None:
        """End no sooner than ``duration`` seconds from now. 404 unless running."""
        try:
            await self._extend(entry.sandbox, duration)
        except _NotRunning:
            raise sandbox_not_found(entry.sandbox_id) from None

    async def set_network(self, entry: Entry, update: NetworkUpdate) -> None:
        """Replace what it may reach, and wait until the node enforces it. 404 if paused, 409 in between; Fault 400."""

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any]:
            if run is Run.PAUSED:
                raise sandbox_not_found(entry.sandbox_id)
            if run is not Run.RUNNING:
                raise Fault(409, f'Sandbox "{entry.sandbox_id}" is not running: its network cannot be changed now')
            known = options_of(sandbox)
            wanted = network.replan(update, internet=known.internet, echo=known.network)
            internet = known.internet if update.allow_internet_access is None else update.allow_internet_access
            changed = msgspec.structs.replace(known, internet=internet, network=wanted.echo, present=True)
            annotations = {**wanted.annotations, E2B_LIFECYCLE: options.encode(changed)}
            return {"metadata": {"labels": wanted.labels, "annotations": annotations}}

        sandbox = await self._moves.change(entry.sandbox, decide)
        try:
            await dress_pod(self._cluster, sandbox)
        except InitFailed as error:
            raise Fault(503, f'Sandbox "{entry.sandbox_id}": {error}') from error

    async def kill(self, entry: Entry) -> None:
        """Delete it; from the first moment on nobody finds it any more. 404 when it was gone already.

        Runs to its end when the caller is cancelled, so that the sandbox is not left buried but alive.
        """
        task = asyncio.create_task(self._kill(entry.sandbox))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)
        await asyncio.shield(task)

    def discard(self, entry: Entry) -> None:
        """Begin to kill a sandbox that nobody was told of; what fails is logged, and its time-out remains."""

        async def end() -> None:
            try:
                await self._kill(entry.sandbox)
            except Fault:
                return  # gone already
            except KubeError as error:
                logger.error("sandbox %s, whose client had left, could not be removed: %s", entry.sandbox_id, error)

        task = asyncio.create_task(end())
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)

    async def _kill(self, sandbox: Sandbox) -> None:
        self._roster.bury(sandbox)
        try:
            await delete(self._cluster, sandbox)
        except NotFound:
            raise sandbox_not_found(sandbox_id_of(sandbox)) from None
        except BaseException:
            self._roster.unbury(self._moves.newest(sandbox))
            raise

    async def _extend(self, sandbox: Sandbox, timeout: float) -> None:
        """Move the deadline back, never forward. Raises _NotRunning."""

        def decide(now: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is not Run.RUNNING:
                raise _NotRunning
            timers = deadlines.extended(deadlines.timers_of(now), self._timers(now, timeout))
            return {"spec": timers.patch()} if timers is not None else None

        await self._moves.change(sandbox, decide)

    def _timers(self, sandbox: Sandbox, timeout: float, auto_pause: bool | None = None) -> Timers:
        chosen = options_of(sandbox).auto_pause if auto_pause is None else auto_pause
        retention = deadlines.retention_of(sandbox)
        return deadlines.running(self._now(), timeout, auto_pause=chosen, retention=retention)

    def _pause_patch(self, sandbox: Sandbox, run: Run, *, retention: timedelta | None) -> Mapping[str, Any] | None:
        if run is Run.PAUSING:
            return None
        if run is not Run.RUNNING:
            word = "paused already" if run is Run.PAUSED else "being resumed"
            raise Fault(409, f'Sandbox "{sandbox_id_of(sandbox)}" is {word}')
        timers = deadlines.paused(self._now(), sandbox, options_of(sandbox), retention)
        meta = {"metadata": {"annotations": retention_annotation(retention)}} if retention is not None else {}
        return {**meta, "spec": {"paused": True, **timers.patch()}}

    def _resume_patch(self, sandbox: Sandbox, run: Run, timeout: float, auto_pause: bool | None) -> Mapping[str, Any]:
        if run is not Run.PAUSED:
            raise Fault(409, f'Sandbox "{sandbox_id_of(sandbox)}" is still being paused, try again')
        known = options_of(sandbox)
        fields: dict[str, Any] = {"started_at": times.format(self._now(), micro=True), "present": True}
        if auto_pause is not None:
            fields["auto_pause"] = auto_pause
        text = options.encode(msgspec.structs.replace(known, **fields))
        timers = self._timers(sandbox, timeout, auto_pause)
        return {"metadata": {"annotations": {E2B_LIFECYCLE: text}}, "spec": {"paused": False, **timers.patch()}}


class _NotRunning(Exception):
    """The sandbox is not running (any more)."""


def _pause_over(sandbox: Sandbox) -> bool:
    return is_paused(sandbox) or not sandbox.spec.paused
