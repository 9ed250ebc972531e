"""What the deciders of a Sandbox share: what is seen, what can be asked for, and how a status is put together. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import msgspec

from appliance.api import conditions, labels, times
from appliance.api.conditions import RUNTIME_INITIALIZED, Phase, Reason
from appliance.api.corestructs import Pod
from appliance.api.structs import PodInfo, Sandbox, SandboxSpec, SandboxStatus
from appliance.controller import pod_reading
from appliance.controller.condition_list import with_condition, without
from appliance.controller.inplace import Change, replaced


class Act(Enum):
    """Effects a decision can ask for."""

    CREATE_POD = "create the pod"
    DELETE_POD = "delete the pod"
    CONFIRM_LOSS = "ask the server whether the pod is really gone"
    FREEZE = "ask for the pod to be frozen"
    SHRINK = "give back the cpu request of the frozen pod"
    THAW = "ask for the pod to be thawed, or booted"
    HALT = "ask for the pod's processes to be ended and its files to be kept"
    INIT = "initialise the runtime again"
    PRE_UPGRADE = "run the hook before the upgrade"
    POST_UPGRADE = "run the hook after the upgrade"
    UPDATE_POD = "change the running pod as the template has changed"
    RELEASE = "remove the finalizer"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the controller sees at one moment."""

    sandbox: Sandbox
    pod: Pod | None
    """The pod of the sandbox's name, whoever owns it."""
    freezer: bool
    """Whether the pod's node obeys the freezer annotation."""
    now: datetime
    keeps_files: bool = False
    """Whether the pod's node can end its processes and keep its files."""
    silence: str = ""
    """Why the pod's node cannot be counted on; empty when it can."""
    farewell: str = ""
    """How the cluster took away a pod that is gone by now, as far as it was seen."""
    initialised: bool = False
    """Whether the runtime in this incarnation of the pod has been initialised by the controller."""
    loss_confirmed: bool = False
    trouble: str = ""
    """Why the pod could not be created or initialised last time."""
    effective: SandboxSpec | None = None
    """The sandbox's spec with what it leaves to its template filled in; None: as it is."""
    upgrade: str = ""
    """Names the upgrade that template and hooks ask for."""
    hook: str | None = None
    """What went wrong with the hook whose turn it is, empty for nothing; None: it has not ended."""
    change: Change | None = None
    """What the pod lacks of the sandbox's present template."""


@dataclass(frozen=True)
class Decision:
    """A status, and what to do about it."""

    status: SandboxStatus
    acts: tuple[Act, ...] = ()


def make_status(seen: Seen, phase: str, message: str = "", *, ready: bool, reason: str, why: str = "") -> SandboxStatus:
    """The sandbox's status with phase, message and Ready condition, and the pod's whereabouts."""
    old = seen.sandbox.status
    pod = seen.pod
    place = PodInfo(node_name=pod.spec.node_name, pod_ip=pod.status.pod_ip, pod_uid=pod.uid) if pod else PodInfo()
    return msgspec.structs.replace(
        old,
        observed_generation=seen.sandbox.meta.generation,
        phase=str(phase),
        message=message,
        conditions=with_condition(old.conditions, conditions.READY, ready, reason, why or message, seen.now),
        pod_info=place,
        node_name=place.node_name,
        sandbox_ip=place.pod_ip,
        update_revision=seen.sandbox.meta.labels.get(labels.TEMPLATE_HASH) or old.update_revision,
    )


def mark(seen: Seen, status: SandboxStatus, kind: str, value: bool, reason: str, message: str = "") -> SandboxStatus:
    """The status with one more condition."""
    updated = with_condition(status.conditions, kind, value, reason, message, seen.now)
    return msgspec.structs.replace(status, conditions=updated)


def unmark(status: SandboxStatus, *kinds: str) -> SandboxStatus:
    return msgspec.structs.replace(status, conditions=without(status.conditions, *kinds))


def mirror(seen: Seen, pod: Pod) -> SandboxStatus:
    """Running, and as ready as the pod; a runtime that lost its delivery's state is not ready."""
    if pod_reading.ready(pod) and not needs_init(seen, pod):
        return make_status(seen, Phase.RUNNING, ready=True, reason=Reason.POD_READY)
    if seen.silence:
        return make_status(seen, Phase.RUNNING, seen.silence, ready=False, reason=Reason.NODE_NOT_READY)
    why = seen.trouble or (pod_reading.unready(pod) if not pod_reading.ready(pod) else "the runtime restarted")
    return make_status(seen, Phase.RUNNING, why, ready=False, reason=unready_reason(pod))


def unready_reason(pod: Pod) -> str:
    """One word for why a running pod is not ready."""
    if pod_reading.start_failure(pod):
        return Reason.START_CONTAINER_FAILED
    return Reason.CONTAINER_ENDED if pod_reading.ended_containers(pod) else "PodNotReady"


def needs_init(seen: Seen, pod: Pod) -> bool:
    """A container of a delivered sandbox restarted: the new runtime knows neither token nor environment."""
    if seen.initialised or not pod_reading.ready(pod) or not restarted(seen, pod):
        return False
    done = conditions.find(seen.sandbox.status.conditions, RUNTIME_INITIALIZED)
    return done is None or done.status != "True" or done.message != pod_reading.incarnation(pod)


def restarted(seen: Seen, pod: Pod) -> bool:
    """Whether a container restarted after the delivery; earlier ones were met by the delivery's own /init."""
    if seen.sandbox.meta.labels.get(labels.CLAIMED) != "true":
        return False
    if replaced(pod):
        return True
    delivered = times.parse_or_none(seen.sandbox.meta.annotations.get(labels.CLAIM_TIMESTAMP))
    return delivered is not None and pod_reading.restarted_after(pod, delivered)


def ended(seen: Seen, pod: Pod) -> Decision:
    """The pod ran to its end, or was ended by its node."""
    phase = Phase.SUCCEEDED if pod.status.phase == "Succeeded" else Phase.FAILED
    evicted = pod.status.reason == Reason.EVICTED or pod_reading.disruption(pod)
    reason = Reason.EVICTED if evicted else f"Pod{pod.status.phase}"
    return Decision(make_status(seen, phase, pod_reading.ending(pod), ready=False, reason=reason))


def lost(seen: Seen, message: str) -> Decision:
    """The pod is going or gone; where the cluster said why it took it away, that is the message."""
    why = pod_reading.disruption(seen.pod) if seen.pod is not None else seen.farewell
    if not why:
        return Decision(make_status(seen, Phase.FAILED, message, ready=False, reason="PodNotFound"))
    whole = f"{why}; {seen.silence}" if seen.silence else why
    return Decision(make_status(seen, Phase.FAILED, whole, ready=False, reason=Reason.EVICTED))
