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
from datetime import datetime
from typing import Any

import msgspec

from appliance.api import times
from appliance.api.kinds import SANDBOX
from appliance.api.labels import E2B_LIFECYCLE
from appliance.api.structs import Sandbox
from appliance.kube.cluster import Cluster
from appliance.kube.errors import Conflict, KubeError, NotFound
from appliance.kube.informer import Informer
from appliance.manager import deadlines, options
from appliance.manager.deadlines import Timers
from appliance.manager.errors import Fault, sandbox_not_found
from appliance.manager.options import options_of
from appliance.manager.roster import Entry, Roster, sandbox_id_of
from appliance.manager.runstate import Run, is_paused, is_ready, run_of

PAUSE_WAIT = 60.0
"""Seconds a pause may take before the client is told that it takes longer."""
RESUME_WAIT = 120.0
"""Seconds a resume may take: with the strategy Stop a new pod is made."""
ATTEMPTS = 8
"""Guarded writes before giving up; each loss means that somebody else changed the sandbox."""

logger = logging.getLogger(__name__)
Decide = Callable[[Sandbox, Run], Mapping[str, Any] | None]
"""A sandbox and where it is in its life → the merge patch, or None for nothing to do; raises Fault to refuse."""


class Lifecycle:
    """Actions on delivered sandboxes. Each raises Fault (404, 409, 503, 504) or KubeError."""

    def __init__(
        self, cluster: Cluster, sandboxes: Informer[Sandbox], roster: Roster, *, now: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._roster = roster
        self._now = now
        self._kills: set[asyncio.Task[None]] = set()

    async def pause(self, entry: Entry) -> None:
        """Pause and wait until it is done; joins a pause under way. 409 when paused already or resuming."""

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is Run.PAUSING:
                return None
            if run is not Run.RUNNING:
                word = "paused already" if run is Run.PAUSED else "being resumed"
                raise Fault(409, f'Sandbox "{entry.sandbox_id}" is {word}')
            timers = deadlines.paused(self._now(), sandbox, options_of(sandbox))
            return {"spec": {"paused": True, **timers.patch()}}

        sandbox = await self._change(entry.sandbox, decide)
        await self._wait(sandbox, is_paused, PAUSE_WAIT, "pause")

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
            await self._wait(entry.sandbox, lambda one: is_paused(one) or not one.spec.paused, PAUSE_WAIT, "pause")
        sandbox = await self._change(entry.sandbox, decide)
        sandbox = await self._wait(sandbox, is_ready, RESUME_WAIT, "resume")
        if joined:
            await self._extend(sandbox, timeout)

    async def set_timeout(self, entry: Entry, timeout: float) -> None:
        """End in ``timeout`` seconds from now, sooner or later than before. 404 unless running."""

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is not Run.RUNNING:
                raise sandbox_not_found(entry.sandbox_id)
            return {"spec": self._timers(sandbox, timeout).patch()}

        await self._change(entry.sandbox, decide)

    async def refresh(self, entry: Entry, duration: float) -> None:
        """End no sooner than ``duration`` seconds from now. 404 unless running."""
        try:
            await self._extend(entry.sandbox, duration)
        except _NotRunning:
            raise sandbox_not_found(entry.sandbox_id) from None

    async def kill(self, entry: Entry) -> None:
        """Delete it; from the first moment on nobody finds it any more. 404 when it was gone already.

        Runs to its end when the caller is cancelled, so that the sandbox is not left buried but alive.
        """
        task = asyncio.create_task(self._kill(entry.sandbox))
        self._kills.add(task)
        task.add_done_callback(self._kills.discard)
        await asyncio.shield(task)

    async def _kill(self, sandbox: Sandbox) -> None:
        self._roster.bury(sandbox)
        try:
            await delete(self._cluster, sandbox)
        except NotFound:
            raise sandbox_not_found(sandbox_id_of(sandbox)) from None
        except BaseException:
            self._roster.unbury(self._sandboxes.get(*sandbox.key) or sandbox)
            raise

    async def _extend(self, sandbox: Sandbox, timeout: float) -> None:
        """Move the deadline back, never forward. Raises _NotRunning."""

        def decide(now: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is not Run.RUNNING:
                raise _NotRunning
            timers = deadlines.extended(deadlines.timers_of(now), self._timers(now, timeout))
            return {"spec": timers.patch()} if timers is not None else None

        await self._change(sandbox, decide)

    def _timers(self, sandbox: Sandbox, timeout: float, auto_pause: bool | None = None) -> Timers:
        chosen = options_of(sandbox).auto_pause if auto_pause is None else auto_pause
        retention = deadlines.retention_of(sandbox)
        return deadlines.running(self._now(), timeout, auto_pause=chosen, retention=retention)

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

    async def _change(self, known: Sandbox, decide: Decide) -> Sandbox:
        """Decide on the newest known state and write it, guarded; the sandbox as it is afterwards."""
        sandbox = self._sandboxes.get(*known.key) or known
        for _ in range(ATTEMPTS):
            if sandbox.uid != known.uid or self._dead(sandbox):
                raise sandbox_not_found(sandbox_id_of(known))
            patch = decide(sandbox, run_of(sandbox, self._now()))
            if patch is None:
                return sandbox
            try:
                version = sandbox.meta.resource_version
                sandbox = await self._cluster.patch(SANDBOX, *known.key, patch, resource_version=version)
                self._sandboxes.observe(sandbox)
                return sandbox
            except Conflict:
                sandbox = await self._reread(known)
            except NotFound:
                raise sandbox_not_found(sandbox_id_of(known)) from None
        message = f'Sandbox "{sandbox_id_of(known)}" keeps changing, try again'
        raise Fault(503, message, headers={"Retry-After": "1"})

    async def _reread(self, known: Sandbox) -> Sandbox:
        try:
            sandbox = await self._cluster.get(SANDBOX, *known.key)
        except NotFound:
            raise sandbox_not_found(sandbox_id_of(known)) from None
        self._sandboxes.observe(sandbox)
        return sandbox

    async def _wait(self, sandbox: Sandbox, done: Callable[[Sandbox], bool], seconds: float, what: str) -> Sandbox:
        """The sandbox once ``done`` holds. 404 when it dies meanwhile, 504 when it takes too long."""

        def settled(one: Sandbox | None) -> bool:
            return one is None or one.uid != sandbox.uid or self._dead(one) or done(one)

        try:
            found = await self._sandboxes.wait_for(*sandbox.key, settled, seconds)
        except TimeoutError:
            message = f'The {what} of sandbox "{sandbox_id_of(sandbox)}" is taking longer than {seconds:g} seconds'
            raise Fault(504, message) from None
        if found is None or found.uid != sandbox.uid or self._dead(found):
            raise sandbox_not_found(sandbox_id_of(sandbox))
        return found

    def _dead(self, sandbox: Sandbox) -> bool:
        return run_of(sandbox, self._now()) is Run.GONE or self._roster.is_buried(sandbox)


class _NotRunning(Exception):
    """The sandbox is not running (any more)."""


async def delete(cluster: Cluster, sandbox: Sandbox, attempts: int = 3) -> None:
    """Delete exactly this sandbox; an unknown outcome is asked again, since deleting twice harms nobody.

    Raises NotFound when it was gone before the first attempt, and KubeError.
    """
    for attempt in range(attempts):
        try:
            await cluster.delete(SANDBOX, *sandbox.key, uid=sandbox.uid)
            return
        except NotFound:
            if attempt == 0:
                raise
            return
        except Conflict:
            raise NotFound(404, "NotFound", "another sandbox has its name now") from None
        except KubeError as error:
            status = getattr(error, "status", 503)
            if attempt == attempts - 1 or status < 500:
                raise
            logger.warning("delete of %s/%s: %s; asking again", *sandbox.key, error)
