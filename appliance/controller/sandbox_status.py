"""A Sandbox's status: which differences are news, and which can wait.

A pool member should cost one status write in its youth: Running and Ready at once. So "Pending", "Running but not
ready" of a member, and explanations wait two seconds, by which time they are mostly no longer true or needed; a mere
``observedGeneration`` waits half a minute, which most claimed sandboxes do not live. What somebody waits for (phases of
claimed sandboxes, Ready, pause and resume, an address) is written at once.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec

from appliance.api import conditions, kinds
from appliance.api.conditions import Phase
from appliance.api.states import in_pool
from appliance.api.structs import Sandbox, SandboxStatus
from appliance.controller.condition_list import as_json
from appliance.controller.patience import Patience
from appliance.controller.world import Key, World

_TOLD_AT_ONCE = (conditions.Reason.FAILED, conditions.Reason.POD_CREATE_FAILED)
LAZY = 2.0
"""Seconds that what is not urgent waits."""
STARTING_LAZY = 6.0
"""Seconds that the stages of a pool member's start wait: in a large refill creations run ahead of pods, and a member
that tells of being about to start costs a quarter more writes when there are most of them."""
GENERATION_LAZY = 30.0
"""Seconds that a new ``observedGeneration`` waits when nothing else changed: a claim moves only timers."""


class SandboxStatusWriter:
    """Writes statuses of sandboxes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._patience: Patience[Key] = Patience(time.monotonic)

    async def write(self, sandbox: Sandbox, wanted: SandboxStatus) -> float | None:
        """Write if due; else the seconds until it is, or None when there is nothing to say.

        Raises KubeError; Conflict when the sandbox is not the one the status was decided from.
        """
        if wanted == sandbox.status:
            self._patience.clear(sandbox.key)
            return None
        if not urgent(sandbox.status, wanted, pooled=in_pool(sandbox)):
            left = self._patience.left(sandbox.key, patience(sandbox.status, wanted, pooled=in_pool(sandbox)))
            if left > 0:
                return left
        patch = {"metadata": {"uid": sandbox.uid}, "status": changes(sandbox.status, wanted)}
        answer = await self._world.cluster.patch(
            kinds.SANDBOX, sandbox.namespace, sandbox.name, patch, subresource="status"
        )
        self._patience.clear(sandbox.key)
        self._world.sandboxes.observe(answer)
        return None

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._patience.clear(key)


def patience(old: SandboxStatus, new: SandboxStatus, *, pooled: bool) -> float:
    """Seconds that this change, which is not urgent, may wait."""
    if msgspec.structs.replace(old, observed_generation=new.observed_generation) == new:
        return GENERATION_LAZY
    return STARTING_LAZY if pooled and not old.phase else LAZY


def urgent(old: SandboxStatus, new: SandboxStatus, *, pooled: bool) -> bool:
    """Whether somebody may be waiting for this change; nobody waits for a pool member that is not ready yet."""
    starting = old.phase in ("", Phase.PENDING) and not conditions.is_true(new.conditions, conditions.READY)
    if new.phase != old.phase and not (
        starting and (new.phase == Phase.PENDING or (pooled and new.phase == Phase.RUNNING))
    ):
        return True
    if new.sandbox_ip != old.sandbox_ip and new.phase != Phase.PENDING and not (pooled and starting):
        return True
    before = {item.type: item.status for item in old.conditions}
    for item in new.conditions:
        if item.status != before.get(item.type, "False"):
            return True
        if item.reason in _TOLD_AT_ONCE or item.type == conditions.SANDBOX_PAUSED:
            known = conditions.find(old.conditions, item.type)
            if known is None or known.reason != item.reason:
                return True
    return False


def changes(old: SandboxStatus, new: SandboxStatus) -> dict[str, Any]:
    """The merge patch from one status to the other: only fields that differ."""
    before, after = _as_json(old), _as_json(new)
    return {key: value for key, value in after.items() if value != before[key]}


def _as_json(status: SandboxStatus) -> dict[str, Any]:
    place = status.pod_info
    return {
        "observedGeneration": status.observed_generation,
        "phase": status.phase,
        "message": status.message,
        "conditions": as_json(status.conditions),
        "podInfo": {"nodeName": place.node_name, "podIP": place.pod_ip, "podUID": place.pod_uid},
        "nodeName": status.node_name,
        "sandboxIp": status.sandbox_ip,
        "updateRevision": status.update_revision,
    }
