"""What a SandboxClaim should do next: pure, decided from its specification, status, and the sandboxes it really owns.

Counting is ``max(status, reality)``: a status that got lost heals from the sandboxes that carry the claim's UID, and
a claimed sandbox that somebody deleted is not replaced (a claim is like a Job, not like a pool).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec

from appliance.api import labels, times
from appliance.api.conditions import COMPLETED, TIMED_OUT, ClaimPhase
from appliance.api.imagenames import is_reference
from appliance.api.quantities import quantity
from appliance.api.structs import (
    ClaimedSandbox,
    InplaceUpdate,
    ResourceChange,
    Sandbox,
    SandboxClaim,
    SandboxClaimStatus,
)
from appliance.claims.newborn import system_key
from appliance.claims.updating import Update
from appliance.controller.condition_list import with_condition
from appliance.controller.revision import unknown_runtime

SET_GRACE = timedelta(seconds=5)
"""How long a claim waits for a SandboxSet that is not there: both may have been applied in one file."""
_PRIVATE_ANNOTATIONS = (labels.OWNER, labels.LOCK, labels.CLAIM_TIMESTAMP)


@dataclass(frozen=True)
class ClaimSeen:
    """What the controller sees at one moment."""

    claim: SandboxClaim
    owned: Sequence[Sandbox]
    """Sandboxes that carry the claim's UID, are delivered, and are not marked as failed."""
    set_exists: bool
    started: datetime
    now: datetime
    message: str = ""
    """What went wrong last."""
    hopeless: bool = False
    """What went wrong would go wrong with every other sandbox too."""


@dataclass(frozen=True)
class ClaimPlan:
    """Status to show, how many to claim now, and seconds until time changes the answer."""

    status: SandboxClaimStatus
    attempts: int = 0
    wait: float | None = None
    expired: bool = False
    """The claim object's time after completion is over: delete it."""


def decide(seen: ClaimSeen) -> ClaimPlan:
    """The next step."""
    claim, now = seen.claim, seen.now
    if claim.status.phase == ClaimPhase.COMPLETED:
        return _after_completion(claim, now)
    problem = invalid(claim)
    if problem:
        return ClaimPlan(_completed(seen, "InvalidSpec", problem))
    left = claim.spec.replicas - claimed_count(claim, seen.owned)
    if left <= 0:
        return ClaimPlan(_completed(seen, "AllClaimed", f"claimed {claim.spec.replicas} of {claim.spec.replicas}"))
    if seen.hopeless:
        return ClaimPlan(_completed(seen, "InplaceUpdateFailed", _shortfall(seen, left)))
    deadline = seen.started + times.parse_duration(claim.spec.claim_timeout)
    if not seen.set_exists and (now >= seen.started + SET_GRACE or now >= deadline):
        message = f"spec.templateName: SandboxSet {claim.spec.template_name!r} does not exist"
        return ClaimPlan(_completed(seen, "SandboxSetNotFound", message))
    if now >= deadline:
        return ClaimPlan(_completed(seen, "TimedOut", _shortfall(seen, left)))
    until = deadline if seen.set_exists else min(deadline, seen.started + SET_GRACE)
    return ClaimPlan(claiming(seen), left if seen.set_exists else 0, (until - now).total_seconds())


def invalid(claim: SandboxClaim) -> str:
    """Why the claim cannot be carried out as written, naming the field; empty when it can."""
    spec = claim.spec
    if problem := _invalid_update(spec.inplace_update):
        return problem
    if spec.dynamic_volumes_mount:
        return "spec.dynamicVolumesMount: not supported by this version; nothing was claimed"
    if problem := unknown_runtime(spec.runtimes):
        return problem
    for key in spec.labels:
        if system_key(key) and key != labels.ALLOW_INTERNET:
            return f"spec.labels[{key}]: expected keys outside {labels.GROUP}/, which the system sets itself"
    for key in spec.annotations:
        if key in _PRIVATE_ANNOTATIONS:
            return f"spec.annotations[{key}]: expected keys that the system does not set itself"
    for name, text in (("claimTimeout", spec.claim_timeout), ("ttlAfterCompleted", spec.ttl_after_completed)):
        try:
            times.parse_duration(text)
        except ValueError as error:
            return f"spec.{name}: {error}"
    try:
        if times.parse_duration(spec.wait_ready_timeout) <= timedelta(0):
            return f"spec.waitReadyTimeout: expected more than 0s, got {spec.wait_ready_timeout}"
    except ValueError as error:
        return f"spec.waitReadyTimeout: {error}"
    if spec.shutdown_time and times.parse_or_none(spec.shutdown_time) is None:
        return f"spec.shutdownTime: expected an RFC 3339 instant, got {spec.shutdown_time!r}"
    return ""


def _invalid_update(update: InplaceUpdate | None) -> str:
    if update is None:
        return ""
    if update.image and not is_reference(update.image):
        return f"spec.inplaceUpdate.image: expected the name of an image, got {update.image[:200]!r}"
    resources = update.resources or ResourceChange()
    for kind, amounts in (("requests", resources.requests), ("limits", resources.limits)):
        for name, amount in amounts.items():
            field = f"spec.inplaceUpdate.resources.{kind}.{name}"
            if name not in ("cpu", "memory"):
                return f"{field}: expected cpu or memory, which are all that a running pod can change"
            try:
                if quantity(str(amount)) <= 0:
                    return f"{field}: expected more than 0, got {amount!r}"
            except ValueError as error:
                return f"{field}: {error}"
    return ""


def update_of(claim: SandboxClaim) -> Update | None:
    """The in-place update that a claim asks for."""
    wanted = claim.spec.inplace_update
    if wanted is None:
        return None
    resources = wanted.resources or ResourceChange()
    requests, limits = ({k: str(v) for k, v in part.items()} for part in (resources.requests, resources.limits))
    return Update(image=wanted.image, requests=requests, limits=limits) if wanted.image or requests or limits else None


def claimed_count(claim: SandboxClaim, owned: Sequence[Sandbox]) -> int:
    """How many were claimed so far, deleted ones included."""
    return max(claim.status.claimed_replicas, len(_merged(claim, owned)))


def unrecorded(claim: SandboxClaim, owned: Sequence[Sandbox]) -> list[Sandbox]:
    """Owned sandboxes the status does not know: taken, but perhaps never initialised, before a crash."""
    known = {item.name for item in claim.status.claimed_sandboxes}
    return [sandbox for sandbox in owned if sandbox.name not in known]


def claiming(seen: ClaimSeen) -> SandboxClaimStatus:
    """The status while it goes on."""
    return _progress(seen, ClaimPhase.CLAIMING, seen.message)


def _progress(seen: ClaimSeen, phase: str, message: str) -> SandboxClaimStatus:
    claim = seen.claim
    return msgspec.structs.replace(
        claim.status,
        observed_generation=claim.meta.generation,
        phase=str(phase),
        message=message,
        claimed_replicas=claimed_count(claim, seen.owned),
        claim_start_time=claim.status.claim_start_time or times.format(seen.started),
        claimed_sandboxes=_merged(claim, seen.owned),
    )


def _completed(seen: ClaimSeen, reason: str, message: str) -> SandboxClaimStatus:
    status = _progress(seen, ClaimPhase.COMPLETED, message)
    conditions = with_condition(status.conditions, COMPLETED, True, reason, message, seen.now)
    if reason == "TimedOut":
        conditions = with_condition(conditions, TIMED_OUT, True, reason, message, seen.now)
    completion = times.format(seen.now)
    return msgspec.structs.replace(status, conditions=conditions, completion_time=completion)


def _merged(claim: SandboxClaim, owned: Sequence[Sandbox]) -> list[ClaimedSandbox]:
    """Those recorded and those found, by name; a found one brings its id."""
    merged = {item.name: item for item in claim.status.claimed_sandboxes}
    for sandbox in owned:
        sandbox_id = sandbox.meta.labels.get(labels.SANDBOX_ID, "")
        merged[sandbox.name] = ClaimedSandbox(name=sandbox.name, sandbox_id=sandbox_id)
    return list(merged.values())


def _shortfall(seen: ClaimSeen, left: int) -> str:
    wanted = seen.claim.spec.replicas
    within = "" if seen.hopeless else f" within {seen.claim.spec.claim_timeout}"
    text = f"claimed {wanted - left} of {wanted}{within}"
    return f"{text}: {seen.message}" if seen.message else text


def _after_completion(claim: SandboxClaim, now: datetime) -> ClaimPlan:
    finished = times.parse_or_none(claim.status.completion_time)
    try:
        keep = times.parse_duration(claim.spec.ttl_after_completed)
    except ValueError:
        return ClaimPlan(claim.status)
    if finished is None or keep < timedelta(0):
        return ClaimPlan(claim.status)
    left = (finished + keep - now).total_seconds()
    return ClaimPlan(claim.status, wait=left) if left > 0 else ClaimPlan(claim.status, expired=True)
