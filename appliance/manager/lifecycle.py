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
from typing import Any

from appliance.api.structs import Sandbox
from appliance.claims.runtime_client import RuntimeClient
from appliance.kube.cluster import Cluster
from appliance.kube.errors import KubeError, NotFound
from appliance.kube.informer import Informer
from appliance.manager import deadlines
from appliance.manager.bodies import NetworkUpdate
from appliance.manager.errors import Fault, sandbox_not_found
from appliance.manager.network_change import NetworkChanges
from appliance.manager.pauses import Pauses
from appliance.manager.roster import Entry, Roster, sandbox_id_of
from appliance.manager.runstate import Run
from appliance.manager.transitions import Transitions, delete

logger = logging.getLogger(__name__)


class Lifecycle:
    """Actions on delivered sandboxes. Each raises Fault (404, 409, 503, 504) or KubeError."""

    def __init__(
        self,
        cluster: Cluster,
        sandboxes: Informer[Sandbox],
        roster: Roster,
        *,
        now: Callable[[], datetime],
        runtime: RuntimeClient | None = None,
    ) -> None:
        self._cluster = cluster
        self._moves = Transitions(cluster, sandboxes, roster, now=now)
        self._pauses = Pauses(self._moves, now=now)
        self._networks = NetworkChanges(cluster, self._moves, runtime or RuntimeClient())
        self._roster = roster
        self._now = now
        self._kills: set[asyncio.Task[None]] = set()

    async def pause(self, entry: Entry, *, retention: timedelta | None = None, memory: bool = True) -> None:
        """See ``Pauses.pause``."""
        await self._pauses.pause(entry, retention=retention, memory=memory)

    async def connect(self, entry: Entry, timeout: float, *, memory: bool = True) -> bool:
        """Make it run for at least ``timeout`` seconds from now; True when it had to be resumed.

        ``memory`` False boots a paused one from its files, whatever its pause had kept.
        """
        if self._roster.run_of(entry) is Run.RUNNING:
            try:
                await self._extend(entry.sandbox, timeout)
                return False
            except _NotRunning:
                pass
        await self.resume(entry, timeout, memory=memory)
        return True

    async def resume(
        self, entry: Entry, timeout: float, *, auto_pause: bool | None = None, memory: bool = True
    ) -> None:
        """Resume and wait until it is ready; ends in ``timeout`` seconds from now, or later if others asked so."""
        if not memory:
            await self._pauses.forget_memory(entry)
        sandbox, joined = await self._pauses.resume(entry, timeout, auto_pause=auto_pause)
        if joined:
            await self._extend(sandbox, timeout)

    async def set_timeout(self, entry: Entry, timeout: float) -> None:
        """End in ``timeout`` seconds from now, sooner or later than before. 404 unless running."""

        def decide(sandbox: Sandbox, run: Run) -> Mapping[str, Any] | None:
            if run is not Run.RUNNING:
                raise sandbox_not_found(entry.sandbox_id)
            return {"spec": deadlines.of_run(sandbox, self._now(), timeout).patch()}

        await self._moves.change(entry.sandbox, decide)

    async def refresh(self, entry: Entry, duration: float) -> None:
        """End no sooner than ``duration`` seconds from now. 404 unless running."""
        try:
            await self._extend(entry.sandbox, duration)
        except _NotRunning:
            raise sandbox_not_found(entry.sandbox_id) from None

    async def set_network(self, entry: Entry, update: NetworkUpdate) -> None:
        """See ``NetworkChanges.change``."""
        await self._networks.change(entry, update)

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
            await delete(self._cluster, self._moves.newest(sandbox))
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
            timers = deadlines.extended(deadlines.timers_of(now), deadlines.of_run(now, self._now(), timeout))
            return {"spec": timers.patch()} if timers is not None else None

        await self._moves.change(sandbox, decide)


class _NotRunning(Exception):
    """The sandbox is not running (any more)."""
