"""Changing a sandbox and waiting for what comes of it: the two halves of every action in ``lifecycle.py``.

A change is decided on the newest known state and written guarded by its version; when somebody was faster, it is
decided anew on what they made of it. A wait is for informer events, bounded, and ends early when the sandbox dies.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from appliance.api.kinds import SANDBOX
from appliance.api.structs import Sandbox
from appliance.kube.cluster import Cluster
from appliance.kube.errors import Conflict, KubeError, NotFound
from appliance.kube.informer import Informer
from appliance.manager.errors import Fault, sandbox_not_found
from appliance.manager.roster import Roster, sandbox_id_of
from appliance.manager.runstate import Run, run_of

ATTEMPTS = 8
"""Guarded writes before giving up; each loss means that somebody else changed the sandbox."""

logger = logging.getLogger(__name__)
Decide = Callable[[Sandbox, Run], Mapping[str, Any] | None]
"""A sandbox and where it is in its life → the merge patch, or None for nothing to do; raises to refuse."""


class Transitions:
    """Guarded changes of sandboxes and waits for their effect."""

    def __init__(
        self, cluster: Cluster, sandboxes: Informer[Sandbox], roster: Roster, *, now: Callable[[], datetime]
    ) -> None:
        self._cluster = cluster
        self._sandboxes = sandboxes
        self._roster = roster
        self._now = now

    def newest(self, known: Sandbox) -> Sandbox:
        """The sandbox as last seen, which may be newer than ``known``."""
        found = self._sandboxes.get(*known.key)
        return found if found is not None and found.uid == known.uid else known

    def run_of(self, sandbox: Sandbox) -> Run:
        """Where it is in its life, now."""
        return run_of(sandbox, self._now())

    async def change(self, known: Sandbox, decide: Decide) -> Sandbox:
        """Decide and write; the sandbox as it is afterwards. Raises Fault 404 or 503, KubeError, what decide raises."""
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

    async def wait(self, sandbox: Sandbox, done: Callable[[Sandbox], bool], seconds: float, what: str) -> Sandbox:
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


async def delete(cluster: Cluster, sandbox: Sandbox, attempts: int = 3) -> None:
    """Delete exactly this sandbox; an unknown outcome is asked again, since deleting twice harms nobody.

    Guarded by the version that is known, so that one whose deletion somebody else has begun counts as gone: the API
    server would answer a second request like the first.

    Raises NotFound when it was gone before the first attempt, and KubeError.
    """
    version: str | None = sandbox.meta.resource_version
    unknown, changed = 0, 0
    while True:
        try:
            await cluster.delete(SANDBOX, *sandbox.key, uid=sandbox.uid, resource_version=version)
            return
        except NotFound:
            if unknown:
                return
            raise
        except Conflict:
            changed += 1
            now = await _living(cluster, sandbox)
            if now is not None:
                version = now.meta.resource_version if changed < ATTEMPTS else None
            elif unknown:
                return
            else:
                raise NotFound(404, "NotFound", "it is being deleted, or another sandbox has its name now") from None
        except KubeError as error:
            status = getattr(error, "status", 503)
            unknown += 1
            if unknown == attempts or status < 500:
                raise
            logger.warning("delete of %s/%s: %s; asking again", *sandbox.key, error)


async def _living(cluster: Cluster, sandbox: Sandbox) -> Sandbox | None:
    """That very sandbox as the cluster has it now, or as it was where the cluster does not say; None when it is gone
    or on its way.
    """
    try:
        now = await cluster.get(SANDBOX, *sandbox.key)
    except NotFound:
        return None
    except KubeError as error:
        logger.warning("get of %s/%s: %s", *sandbox.key, error)
        return sandbox
    return now if now.uid == sandbox.uid and not now.meta.deletion_timestamp else None
