"""A SandboxSet's status: true soon, and written seldom.

A change of specification, revision or problem, and the moment the pool is complete, are written at once. Counters
that move wait half a second: during a refill that shows steady progress, and a claim whose replacement is up by
then costs no write at all.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from appliance.api import kinds, labels
from appliance.api.structs import SandboxSet, SandboxSetStatus
from appliance.controller.condition_list import as_json, with_condition, without
from appliance.controller.patience import Patience
from appliance.controller.pool_memory import PoolMemory
from appliance.controller.pool_plan import Census
from appliance.controller.revision import Revision
from appliance.controller.world import Key, World

PROGRESS_PERIOD = 0.5
"""Seconds a moving counter may be behind."""
PROBLEM = "Problem"
"""Condition: True while the set cannot do what it asks for; the message says why."""


class PoolStatusWriter:
    """Writes statuses of sets, and only what changed."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._patience: Patience[Key] = Patience(time.monotonic)

    async def write(self, owner: SandboxSet, revision: Revision, found: Census, memory: PoolMemory) -> float | None:
        """Write if due; else the seconds until it is, or None when there is nothing to say. Raises KubeError."""
        owner = self._world.sets.get(*owner.key) or owner
        wanted = counted(owner, revision, found)
        complete = found.available_count == found.total == owner.spec.replicas
        if complete:
            memory.full()
        if wanted == owner.status:
            self._patience.clear(owner.key)
            return None
        if not complete and not _urgent(owner.status, wanted):
            left = self._patience.left(owner.key, PROGRESS_PERIOD)
            if left > 0:
                return left
        await self._patch(owner, wanted)
        return None

    async def write_problem(self, owner: SandboxSet, message: str) -> None:
        """Say in the status why nothing happens; counters stay. Raises KubeError."""
        now = self._world.clock()
        conditions = with_condition(owner.status.conditions, PROBLEM, True, "InvalidSpec", message, now)
        generation = owner.meta.generation
        wanted = msgspec.structs.replace(owner.status, conditions=conditions, observed_generation=generation)
        if wanted != owner.status:
            await self._patch(owner, wanted)

    def forget(self, key: Key) -> None:
        """The set is gone."""
        self._patience.clear(key)

    async def _patch(self, owner: SandboxSet, wanted: SandboxSetStatus) -> None:
        patch = {"status": _as_json(wanted)}
        answer = await self._world.cluster.patch(
            kinds.SANDBOXSET, owner.namespace, owner.name, patch, subresource="status"
        )
        self._patience.clear(owner.key)
        self._world.sets.observe(answer)


def counted(owner: SandboxSet, revision: Revision, found: Census) -> SandboxSetStatus:
    """The status this census amounts to."""
    return SandboxSetStatus(
        observed_generation=owner.meta.generation,
        replicas=found.total,
        available_replicas=found.available_count,
        updated_replicas=found.updated,
        updated_available_replicas=len(found.available),
        update_revision=revision.hash,
        current_revision=revision.template,
        conditions=without(owner.status.conditions, PROBLEM),
        selector=f"{labels.POOL}={owner.name},{labels.CLAIMED}=false",
    )


def _urgent(old: SandboxSetStatus, new: SandboxSetStatus) -> bool:
    same_spec = old.observed_generation == new.observed_generation and old.conditions == new.conditions
    return not same_spec or (old.update_revision, old.current_revision) != (new.update_revision, new.current_revision)


def _as_json(status: SandboxSetStatus) -> dict[str, Any]:
    return {
        "observedGeneration": status.observed_generation,
        "replicas": status.replicas,
        "availableReplicas": status.available_replicas,
        "updatedReplicas": status.updated_replicas,
        "updatedAvailableReplicas": status.updated_available_replicas,
        "updateRevision": status.update_revision,
        "currentRevision": status.current_revision,
        "conditions": as_json(status.conditions),
        "selector": status.selector,
    }
