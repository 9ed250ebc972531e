"""Finding the caller's sandbox: in the roster, else in the cluster.

A client may create through one replica and come back through another before that one's watch has told it. So an id
that is not known here is asked for once, live, before it is called unknown; concurrent questions share the answer.
"""

from __future__ import annotations

import asyncio
import re

from appliance.api.kinds import SANDBOX
from appliance.api.labels import SANDBOX_ID
from appliance.api.structs import Sandbox
from appliance.kube.cluster import Cluster
from appliance.kube.errors import KubeError
from appliance.kube.informer import Informer
from appliance.manager.create import request_label
from appliance.manager.errors import sandbox_not_found
from appliance.manager.keys.model import ApiKey
from appliance.manager.roster import Entry, Roster
from appliance.manager.runstate import Run

TIMEOUT = 2.0
"""Seconds for the live question; then the roster's word counts."""
_ID = re.compile(r"[a-z0-9]{1,63}")


class Finder:
    """Resolves sandbox ids for API requests."""

    def __init__(self, cluster: Cluster, sandboxes: Informer[Sandbox], roster: Roster, namespace: str | None) -> None:
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._roster = roster
        self._namespace = namespace
        self._asking: dict[str, asyncio.Task[bool | None]] = {}

    async def find(self, key: ApiKey, sandbox_id: str) -> tuple[Entry, Run]:
        """The sandbox that the key may see, running or paused. Raises Fault 404 for anything else."""
        known = sandbox_id.partition("-")[0]
        entry = self._roster.get(known)
        if entry is None and not self._roster.was_killed(known) and _ID.fullmatch(known):
            await self._ask(known)
            entry = self._roster.get(known)
        if entry is None or not key.may_see(entry.sandbox.namespace):
            raise sandbox_not_found(sandbox_id)
        run = self._roster.run_of(entry)
        if run in (Run.GONE, Run.STARTING):
            raise sandbox_not_found(sandbox_id)
        return entry, run

    async def refresh(self, sandbox_id: str) -> None:
        """Have the roster say what the cluster says of one id now, not what the last event said. Never raises.

        What another manager made a moment ago is found, what another killed is not any more.
        """
        known = sandbox_id.partition("-")[0]
        if self._roster.was_killed(known) or not _ID.fullmatch(known):
            return
        before = self._roster.get(known)
        there = await self._ask(known)
        if there is False and before is not None and self._roster.get(known) is before:
            self._roster.bury(before.sandbox)

    async def by_request(self, digest: str) -> tuple[Entry, Run] | None:
        """The living sandbox that an idempotent request made, through whichever manager."""
        entry = self._roster.by_request(digest)
        if entry is None:
            await self._fetch(",".join(f"{key}={value}" for key, value in request_label(digest).items()))
            entry = self._roster.by_request(digest)
        return None if entry is None else (entry, self._roster.run_of(entry))

    async def _ask(self, sandbox_id: str) -> bool | None:
        task = self._asking.get(sandbox_id)
        if task is None:
            task = asyncio.create_task(self._fetch(f"{SANDBOX_ID}={sandbox_id}"))
            self._asking[sandbox_id] = task
            task.add_done_callback(lambda _: self._asking.pop(sandbox_id, None))
        return await asyncio.shield(task)

    async def _fetch(self, selector: str) -> bool | None:
        """Bring the sandbox into the cache, if there is one. None: the cluster did not answer, nobody knows."""
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self._cluster.list(SANDBOX, self._namespace, label_selector=selector, limit=1)
        except (KubeError, TimeoutError):
            return None
        for sandbox in found.items:
            self._sandboxes.observe(sandbox)
        return bool(found.items)
