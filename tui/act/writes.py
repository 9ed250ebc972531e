"""What actions do to the cluster: each one guarded write to one object, and one line that says what it did.

They raise KubeError, and Refused when the object is in no state for it. Sandboxes are written against the version
that was on the screen: an operator acts on what he saw, or not at all.
"""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

from appliance.api import kinds, times
from appliance.api.states import State
from appliance.kube.cluster import Cluster
from tui.act.refused import Refused
from tui.act.upgrade import image_name
from tui.model.claims import ClaimRow
from tui.model.pools import PoolRow
from tui.model.sandboxes import SandboxRow

RESTARTED_AT = "appliance.agents.kruise.io/restarted-at"
"""Annotation of a pool's pod template; a new value is a new revision."""
CLAIM_PREFIX = "deck-"


async def kill(cluster: Cluster, row: SandboxRow, argument: str, now: float) -> str:
    """Delete the sandbox, if it is still the one that was seen."""
    await cluster.delete(kinds.SANDBOX, *row.key, uid=row.source.uid)
    return f"killed {row.key[1]}"


async def pause(cluster: Cluster, row: SandboxRow, argument: str, now: float) -> str:
    """Pause a claimed, running sandbox; its timers are cleared so that it does not die while paused."""
    if row.member:
        raise Refused(f"{row.key[1]} is in the pool: only claimed sandboxes are paused")
    if row.source.spec.paused:
        raise Refused(f"{row.key[1]} is paused already")
    spec = {"paused": True, "pauseTime": None, "shutdownTime": None}
    await _patch(cluster, row, {"spec": spec})
    return f"pausing {row.key[1]}"


async def resume(cluster: Cluster, row: SandboxRow, argument: str, now: float) -> str:
    """Resume a paused sandbox, for five minutes unless its timer says otherwise."""
    if not row.source.spec.paused:
        raise Refused(f"{row.key[1]} is not paused")
    spec: dict[str, Any] = {"paused": False}
    if row.end is None or row.end <= now:
        spec["shutdownTime"] = _stamp(now + 300)
    await _patch(cluster, row, {"spec": spec})
    return f"resuming {row.key[1]}"


async def extend(cluster: Cluster, row: SandboxRow, argument: str, now: float) -> str:
    """Move the next timer later by a duration."""
    if row.member or row.state is State.DEAD:
        raise Refused(f"{row.key[1]} has no timeout: it is {row.state.value}")
    by = duration(argument).total_seconds()
    spec: dict[str, Any] = {}
    if row.pause is not None:
        spec["pauseTime"] = _stamp(max(row.pause, now) + by)
    if row.shutdown is not None:
        spec["shutdownTime"] = _stamp(max(row.shutdown, now) + by)
    if not spec:
        raise Refused(f"{row.key[1]} never ends by itself")
    await _patch(cluster, row, {"spec": spec})
    return f"{row.key[1]} ends {argument} later"


async def scale(cluster: Cluster, row: PoolRow, argument: str, now: float) -> str:
    """Set how many warm sandboxes the pool keeps."""
    wanted = replicas(argument, row)
    version = row.source.meta.resource_version
    await cluster.patch(kinds.SANDBOXSET, *row.key, {"spec": {"replicas": wanted}}, resource_version=version)
    return f"{row.key[1]}: from {row.desired} to {wanted}"


async def image(cluster: Cluster, row: PoolRow, argument: str, now: float) -> str:
    """Change the image of the pool's first container: a new revision, rolled out by its controller."""
    whole = await cluster.get(kinds.SANDBOXSET, *row.key, type=dict)
    containers = copy.deepcopy(_template(whole, row)["spec"]["containers"])
    before, containers[0]["image"] = containers[0].get("image", ""), image_name(argument)
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    await cluster.patch(kinds.SANDBOXSET, *row.key, patch, resource_version=whole["metadata"]["resourceVersion"])
    return f"{row.key[1]}: from {before} to {argument.strip()}"


async def restart(cluster: Cluster, row: PoolRow, argument: str, now: float) -> str:
    """Renew every member of the pool, a few at a time, by a new revision of the same template."""
    whole = await cluster.get(kinds.SANDBOXSET, *row.key, type=dict)
    _template(whole, row)
    patch = {"spec": {"template": {"metadata": {"annotations": {RESTARTED_AT: _stamp(now)}}}}}
    await cluster.patch(kinds.SANDBOXSET, *row.key, patch, resource_version=whole["metadata"]["resourceVersion"])
    return f"renewing the members of {row.key[1]}"


async def claim(cluster: Cluster, row: PoolRow, argument: str, now: float) -> str:
    """Make a SandboxClaim for one sandbox that ends after half an hour."""
    name = f"{CLAIM_PREFIX}{int(now * 1000):x}"
    spec = {"templateName": row.key[1], "replicas": 1, "shutdownTime": _stamp(now + 1800)}
    await cluster.create(kinds.SANDBOXCLAIM, row.key[0], {"metadata": {"name": name}, "spec": spec})
    return f"claim {name} of {row.key[1]}, for 30 minutes"


async def drop(cluster: Cluster, row: PoolRow | ClaimRow, argument: str, now: float) -> str:
    """Delete a pool with its members, or the record of a claim."""
    if isinstance(row, PoolRow):
        await cluster.delete(kinds.SANDBOXSET, *row.key, uid=row.source.uid)
    elif row.kind == "claim":
        await cluster.delete(kinds.SANDBOXCLAIM, *row.key)
    else:
        raise Refused("this delivery has no object of its own; kill its sandbox instead")
    return f"deleted {row.key[1]}"


def replicas(argument: str, row: PoolRow) -> int:
    """``12``, ``+3`` or ``-3`` as the new number of members. Raises Refused."""
    digits = argument.strip().lstrip("+-")
    if not digits.isdecimal():
        raise Refused(f"expected a number such as 12, +3 or -3, got {argument!r}")
    sign = {"+": 1, "-": -1}.get(argument.strip()[0])
    wanted = int(digits) if sign is None else row.desired + sign * int(digits)
    if not 0 <= wanted <= 100_000:
        raise Refused(f"a pool keeps between 0 and 100000 sandboxes, not {wanted}")
    return wanted


def duration(argument: str) -> timedelta:
    """``300``, ``5m`` or ``1h30m``. Raises Refused."""
    words = argument.strip()
    try:
        found = times.parse_duration(words + "s" if words.isdecimal() else words)
    except ValueError as error:
        raise Refused(str(error)) from None
    if not timedelta(0) < found <= timedelta(days=365):
        raise Refused(f"expected between a second and a year, got {argument!r}")
    return found


def _template(whole: dict[str, Any], row: PoolRow) -> dict[str, Any]:
    template: dict[str, Any] | None = whole["spec"].get("template")
    if not template:
        raise Refused(f"{row.key[1]} refers to a SandboxTemplate; change that one instead")
    return template


async def _patch(cluster: Cluster, row: SandboxRow, patch: dict[str, Any]) -> None:
    await cluster.patch(kinds.SANDBOX, *row.key, patch, resource_version=row.source.meta.resource_version)


def _stamp(at: float) -> str:
    return times.format(datetime.fromtimestamp(at, UTC))
