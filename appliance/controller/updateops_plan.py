"""What a SandboxUpdateOps should do next: pure, decided from the sandboxes it is about.

Each sandbox is in one stage, by what its own controller says of it. New ones are begun while fewer than
``maxUnavailable`` are being changed or were left unusable by a change; one whose hook failed before anything was
changed is counted as failed and stops nobody. Two operations may run in one namespace: a sandbox belongs to the one
that took it first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

import msgspec

from appliance.api import conditions, labels
from appliance.api.conditions import INPLACE_UPDATE, READY, SANDBOX_PAUSED, UPGRADING, Phase, Reason
from appliance.api.states import in_pool
from appliance.api.structs import Sandbox, SandboxUpdateOps, SandboxUpdateOpsStatus
from appliance.controller import budget
from appliance.controller.condition_list import with_condition
from appliance.controller.inplace_plan import settled
from appliance.controller.revision import hash_of
from appliance.controller.template_source import upgrade_hash
from appliance.controller.upgrade_plan import RECREATE, words

IN_PLACE = "InPlace"
PROGRESSING = "Progressing"
_FAILED = (Reason.PRE_UPGRADE_FAILED, Reason.UPGRADE_POD_FAILED, Reason.POST_UPGRADE_FAILED, Reason.NOT_SUPPORTED)


class Stage(Enum):
    """Of one sandbox in one operation."""

    WAITING = "to be changed"
    RESUMED = "resumed for the change"
    UPDATING = "being changed"
    FAILED = "could not be changed"
    FINISHED = "changed, and to be let go"
    UPDATED = "changed"


@dataclass(frozen=True)
class Target:
    """A sandbox with the template it has and the one it shall have."""

    sandbox: Sandbox
    template: Mapping[str, Any]
    wanted: Mapping[str, Any]


@dataclass(frozen=True)
class OpsPlan:
    """Status to show, sandboxes to begin with, to let go, and to mark as failed."""

    status: SandboxUpdateOpsStatus
    begin: Sequence[Target] = ()
    finish: Sequence[Target] = ()
    mark_failed: Sequence[Target] = ()


def chosen(ops: SandboxUpdateOps, sandbox: Sandbox) -> bool:
    """Whether the operation is about that sandbox at all; ``selector`` has matched. Members of pools never are."""
    if sandbox.meta.labels.get(labels.UPDATE_OPS) == ops.name:
        return not sandbox.meta.deletion_timestamp
    if in_pool(sandbox) or sandbox.meta.deletion_timestamp:
        return False
    paused = sandbox.spec.paused or sandbox.status.phase == Phase.PAUSED
    if not paused and sandbox.status.phase not in (Phase.RUNNING, Phase.UPGRADING):
        return False
    return ("Paused" if paused else "Running") in (ops.spec.state_filter.states or ["Running"])


def in_place(ops: SandboxUpdateOps) -> bool:
    """Whether running pods are changed instead of replaced."""
    return ops.spec.update_strategy.type == IN_PLACE


def stage(ops: SandboxUpdateOps, target: Target) -> Stage:
    """How far one sandbox is."""
    sandbox, spec, status = target.sandbox, target.sandbox.spec, target.sandbox.status
    owner = sandbox.meta.labels.get(labels.UPDATE_OPS)
    if owner != ops.name:
        return Stage.WAITING if target.template != target.wanted or _failed_before(sandbox) else Stage.UPDATED
    if target.template != target.wanted:
        if sandbox.meta.annotations.get(labels.UPGRADE_RESUME) != ops.name:
            return Stage.WAITING  # somebody changed it since
        return Stage.RESUMED if _runs(sandbox) else Stage.UPDATING
    if _stopped(sandbox):
        return Stage.UPDATED if spec.upgrade_policy is None else Stage.FINISHED  # its next pod will have it
    if in_place(ops):
        said = conditions.find(status.conditions, INPLACE_UPDATE)
        if settled(status, hash_of(target.wanted)):
            resumed = labels.UPGRADE_RESUME in sandbox.meta.annotations
            return Stage.FINISHED if resumed else Stage.UPDATED
        seen = status.observed_generation >= sandbox.meta.generation
        bad = said is not None and said.reason in (Reason.FAILED, Reason.FORBIDDEN)
        return Stage.FAILED if bad and seen else Stage.UPDATING
    if spec.upgrade_policy is None:
        return Stage.UPDATED
    said, name = conditions.find(status.conditions, UPGRADING), upgrade_hash(spec.template, spec.lifecycle)
    if said is None or not (said.message.startswith(words(name)) or said.reason == Reason.NOT_SUPPORTED):
        return Stage.UPDATING
    if said.status == "True":
        return Stage.FINISHED
    return Stage.FAILED if said.reason in _FAILED else Stage.UPDATING


def decide(ops: SandboxUpdateOps, targets: Iterable[Target], now: datetime, *, busy: frozenset[str]) -> OpsPlan:
    """The next step; ``busy``: the other operations at work. Raises ValueError naming an unreadable budget's field."""
    sorted_out: dict[Stage, list[Target]] = {item: [] for item in Stage}
    for target in sorted(targets, key=lambda one: one.sandbox.name):
        sorted_out[stage(ops, target)].append(target)
    total = sum(len(items) for items in sorted_out.values())
    finished, failed = sorted_out[Stage.FINISHED], sorted_out[Stage.FAILED]
    resumed = sorted_out[Stage.RESUMED]
    updating = [*sorted_out[Stage.UPDATING], *resumed]
    unusable = [one for one in failed if not conditions.is_true(one.sandbox.status.conditions, READY)]
    allowed = budget.resolve(ops.spec.update_strategy.max_unavailable, total, "spec.updateStrategy.maxUnavailable")
    free = [one for one in sorted_out[Stage.WAITING] if one.sandbox.meta.labels.get(labels.UPDATE_OPS) not in busy]
    room = 0 if ops.spec.paused else max(0, allowed - len(updating) - len(unusable))
    counts = {"replicas": total, "updated_replicas": len(finished) + len(sorted_out[Stage.UPDATED])}
    counts |= {"failed_replicas": len(failed), "updating_replicas": len(updating)}
    waiting = len(sorted_out[Stage.WAITING])
    phase, message = _phase(ops, waiting, len(updating) + len(finished), len(failed), stuck=not room and not updating)
    status = msgspec.structs.replace(
        ops.status,
        observed_generation=ops.meta.generation,
        phase=phase,
        conditions=with_condition(
            ops.status.conditions, PROGRESSING, phase in ("Pending", "Updating"), phase, message, now
        ),
        **counts,
    )
    unmarked = [one for one in failed if labels.UPGRADE_FAILED not in one.sandbox.meta.labels]
    return OpsPlan(status, [*resumed, *free[:room]], finished, unmarked)


def refused(ops: SandboxUpdateOps, problem: str, now: datetime) -> OpsPlan:
    """An operation that cannot be carried out as written."""
    told = with_condition(ops.status.conditions, PROGRESSING, False, "InvalidSpec", problem, now)
    generation = ops.meta.generation
    return OpsPlan(msgspec.structs.replace(ops.status, observed_generation=generation, phase="Failed", conditions=told))


def invalid(ops: SandboxUpdateOps) -> str:
    """Why the operation cannot be carried out, naming the field; empty when it can."""
    kind = ops.spec.update_strategy.type
    if kind not in ("", RECREATE, IN_PLACE):
        return (
            f"spec.updateStrategy.type: expected {RECREATE} or {IN_PLACE}, got {kind!r}: there are no checkpoints here"
        )
    if not ops.spec.selector.get("matchLabels") and not ops.spec.selector.get("matchExpressions"):
        return "spec.selector: expected matchLabels or matchExpressions; an empty one would choose every sandbox"
    if not ops.spec.patch:
        return "spec.patch: expected a strategic merge patch of the pod template, got none"
    for name in ("preUpgrade", "postUpgrade"):
        hook = (ops.spec.lifecycle or {}).get(name)
        if hook is None:
            continue
        if not (hook.get("exec") or {}).get("command"):
            return f"spec.lifecycle.{name}.exec.command: expected a command"
        if kind == IN_PLACE:
            return f"spec.lifecycle.{name}: expected none with updateStrategy.type {IN_PLACE}, which runs no hooks"
    return ""


def _phase(ops: SandboxUpdateOps, waiting: int, under_way: int, failed: int, *, stuck: bool) -> tuple[str, str]:
    if under_way:
        return "Updating", f"{under_way} being changed"
    if waiting and ops.spec.paused:
        return ("Updating" if ops.status.updated_replicas or failed else "Pending"), "spec.paused: halted"
    if waiting and failed and stuck:
        return "Failed", f"{failed} could not be changed and are not ready, which uses up maxUnavailable"
    if waiting:
        return "Updating", f"{waiting} still to be changed"
    return ("Failed", f"{failed} could not be changed") if failed else ("Completed", "all are changed")


def to_resume(ops: SandboxUpdateOps, sandbox: Sandbox) -> bool:
    """Whether a paused sandbox has to run for its change: to be thawed, or for its hooks."""
    paused = sandbox.spec.paused and sandbox.status.phase == Phase.PAUSED
    return paused and (not _stopped(sandbox) or bool(ops.spec.lifecycle))


def _failed_before(sandbox: Sandbox) -> bool:
    """Whether its last change failed: its template says what its pod is not. Another operation tries again."""
    said, change = (conditions.find(sandbox.status.conditions, kind) for kind in (UPGRADING, INPLACE_UPDATE))
    replaced = sandbox.spec.upgrade_policy is not None and said is not None and said.reason in _FAILED
    return replaced or (change is not None and change.reason in (Reason.FAILED, Reason.FORBIDDEN))


def _runs(sandbox: Sandbox) -> bool:
    return sandbox.status.phase == Phase.RUNNING and conditions.is_true(sandbox.status.conditions, READY)


def _stopped(sandbox: Sandbox) -> bool:
    said = conditions.find(sandbox.status.conditions, SANDBOX_PAUSED)
    stopped = said is not None and said.status == "True" and said.reason != Reason.FREEZE_PAUSE_SUCCEED
    return sandbox.status.phase == Phase.PAUSED and sandbox.spec.paused and stopped
