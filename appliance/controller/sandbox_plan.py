"""What a Sandbox should do next: pure, decided from what is seen.

``decide`` returns a status and the actions that lead on. The order of effects is fixed by the controller: actions
first, then another look; the status is written when there is nothing left to do at once. Where a crash in between could
be misread (a stopped pod looks like a lost one), the status says what is intended before the action is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

import msgspec

from appliance.api import conditions, labels, times
from appliance.api.conditions import INPLACE_UPDATE, RUNTIME_INITIALIZED, SANDBOX_PAUSED, SANDBOX_RESUMED, Phase, Reason
from appliance.api.corestructs import Pod
from appliance.api.structs import PodInfo, Sandbox, SandboxStatus
from appliance.controller import pod_reading
from appliance.controller.condition_list import with_condition, without
from appliance.controller.pausing import PauseKind, Unpausable, pause_kind


class Act(Enum):
    """Effects a decision can ask for."""

    CREATE_POD = "create the pod"
    DELETE_POD = "delete the pod"
    CONFIRM_LOSS = "ask the server whether the pod is really gone"
    FREEZE = "ask for the pod to be frozen"
    THAW = "ask for the pod to be thawed"
    INIT = "initialise the runtime again"
    RELEASE = "remove the finalizer"


_TEMPLATE_CHANGED = (
    "the template was changed after the pod was made, and running sandboxes are not updated: the pod keeps the old one "
    "until the sandbox is deleted and made anew, or is paused with pauseStrategy Stop and resumed"
)
_UPGRADE_POLICY = "spec.upgradePolicy is not carried out: running sandboxes are not updated"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the controller sees at one moment."""

    sandbox: Sandbox
    pod: Pod | None
    """The pod of the sandbox's name, whoever owns it."""
    freezer: bool
    """Whether the pod's node obeys the freezer annotation."""
    now: datetime
    initialised: bool = False
    """Whether the runtime in this incarnation of the pod has been initialised by the controller."""
    loss_confirmed: bool = False
    trouble: str = ""
    """Why the pod could not be created or initialised last time."""
    outdated: bool = False
    """Whether the template is another one than the pod was made from."""


@dataclass(frozen=True)
class Decision:
    """A status, and what to do about it."""

    status: SandboxStatus
    acts: tuple[Act, ...] = ()


def decide(seen: Seen) -> Decision:
    """The next step."""
    sandbox = seen.sandbox
    if sandbox.meta.deletion_timestamp:
        return _terminate(seen)
    if seen.pod is not None and not pod_reading.owned_by(seen.pod, sandbox.uid):
        return _foreign_pod(seen)
    match sandbox.status.phase:
        case Phase.FAILED | Phase.SUCCEEDED:
            return Decision(sandbox.status)
        case Phase.RUNNING:
            return _running(seen)
        case Phase.PAUSED:
            return _paused(seen)
        case Phase.RESUMING:
            return _resuming(seen)
        case _:
            return _pending(seen)


def _status(seen: Seen, phase: str, message: str = "", *, ready: bool, reason: str, why: str = "") -> SandboxStatus:
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


def _mark(seen: Seen, status: SandboxStatus, kind: str, value: bool, reason: str, message: str = "") -> SandboxStatus:
    """The status with one more condition."""
    updated = with_condition(status.conditions, kind, value, reason, message, seen.now)
    return msgspec.structs.replace(status, conditions=updated)


def _unmark(status: SandboxStatus, *kinds: str) -> SandboxStatus:
    return msgspec.structs.replace(status, conditions=without(status.conditions, *kinds))


# The phases ---------------------------------------------------------------------------------------------------------


def _terminate(seen: Seen) -> Decision:
    sandbox, pod = seen.sandbox, seen.pod
    if labels.FINALIZER_SANDBOX not in sandbox.meta.finalizers:
        return Decision(sandbox.status)
    if pod is None or not pod_reading.owned_by(pod, sandbox.uid):
        return Decision(sandbox.status, (Act.RELEASE,))
    status = _status(seen, Phase.TERMINATING, "waiting for the pod to end", ready=False, reason="Terminating")
    return Decision(status, () if pod.meta.deletion_timestamp else (Act.DELETE_POD,))


def _foreign_pod(seen: Seen) -> Decision:
    """A pod of an earlier sandbox of this name, about to be collected; or somebody else's, which stays in the way."""
    phase = seen.sandbox.status.phase or Phase.PENDING
    message = f"waiting for pod {seen.sandbox.name}, which belongs to another owner, to go"
    bare = msgspec.structs.replace(seen.sandbox.status)
    status = _status(_without_pod(seen), phase, message, ready=False, reason="PodOwnerMismatch")
    return Decision(status if phase != Phase.PAUSED else bare)


def _without_pod(seen: Seen) -> Seen:
    return Seen(sandbox=seen.sandbox, pod=None, freezer=seen.freezer, now=seen.now, trouble=seen.trouble)


def _pending(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None:
        if seen.trouble:
            status = _status(seen, Phase.PENDING, seen.trouble, ready=False, reason=Reason.POD_CREATE_FAILED)
            return Decision(status, (Act.CREATE_POD,))
        status = _status(seen, Phase.PENDING, "the pod is being created", ready=False, reason=Reason.PENDING)
        return Decision(status, (Act.CREATE_POD,))
    if pod.status.phase in ("Failed", "Succeeded"):
        return _ended(seen, pod)
    if pod.meta.deletion_timestamp:
        return _lost(seen, "Pod Not Found: the pod was deleted before it was running")
    if pod.status.phase == "Running":
        return Decision(_mirror(seen, pod))
    trouble = pod_reading.start_failure(pod)
    reason = Reason.START_CONTAINER_FAILED if trouble else Reason.PENDING
    return Decision(_status(seen, Phase.PENDING, trouble or pod_reading.unready(pod), ready=False, reason=reason))


def _running(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None and not seen.loss_confirmed:
        return Decision(seen.sandbox.status, (Act.CONFIRM_LOSS,))
    if pod is None or pod.meta.deletion_timestamp:
        return _lost(seen, "Pod Not Found: the pod was deleted while the sandbox was running")
    if pod.status.phase in ("Failed", "Succeeded"):
        return _ended(seen, pod)
    if seen.sandbox.spec.paused:
        return _start_pause(seen, pod)
    if pod_reading.desired(pod) == "frozen":  # a pause that was taken back before it was complete
        return Decision(_mirror(seen, pod), (Act.THAW,))
    if _needs_init(seen, pod):
        return Decision(_mirror(seen, pod), (Act.INIT,))
    status = _unmark(_mirror(seen, pod), SANDBOX_PAUSED)
    if seen.initialised and _restarted(seen, pod):
        status = _mark(seen, status, RUNTIME_INITIALIZED, True, Reason.SUCCEEDED, pod_reading.incarnation(pod))
    return Decision(_say_unsupported(seen, status))


def _say_unsupported(seen: Seen, status: SandboxStatus) -> SandboxStatus:
    """A wish for an update of the running pod is refused in words, until it is taken back."""
    if seen.outdated:
        return _mark(seen, status, INPLACE_UPDATE, False, Reason.NOT_SUPPORTED, _TEMPLATE_CHANGED)
    if seen.sandbox.spec.upgrade_policy is not None:
        return _mark(seen, status, INPLACE_UPDATE, False, Reason.NOT_SUPPORTED, _UPGRADE_POLICY)
    said = conditions.find(status.conditions, INPLACE_UPDATE)
    return _unmark(status, INPLACE_UPDATE) if said is not None and said.reason == Reason.NOT_SUPPORTED else status


def _start_pause(seen: Seen, pod: Pod) -> Decision:
    """Freeze: everything happens to the pod first, and Paused is written once it is true. Stop: Paused comes first."""
    try:
        kind = pause_kind(seen.sandbox.spec, freezer=seen.freezer)
    except Unpausable as error:
        status = _mark(seen, _mirror(seen, pod), SANDBOX_PAUSED, False, Reason.FAILED, str(error))
        return Decision(msgspec.structs.replace(status, message=str(error)))
    if kind is PauseKind.STOP:
        status = _status(seen, Phase.PAUSED, "stopping the pod", ready=False, reason="Paused")
        status = _unmark(status, SANDBOX_RESUMED, RUNTIME_INITIALIZED)
        return Decision(_mark(seen, status, SANDBOX_PAUSED, False, Reason.PENDING, "the pod is being stopped"))
    if pod_reading.desired(pod) != "frozen":
        status = _mark(seen, _mirror(seen, pod), SANDBOX_PAUSED, False, Reason.PENDING, "freezing every process")
        if seen.trouble:
            status = _mark(seen, _mirror(seen, pod), SANDBOX_PAUSED, False, Reason.FAILED, seen.trouble)
        return Decision(status, (Act.FREEZE,))
    if seen.freezer and pod_reading.frozen(pod) is not True:
        waiting = f"waiting for node {pod.spec.node_name} to freeze every process"
        return Decision(_mark(seen, _mirror(seen, pod), SANDBOX_PAUSED, False, Reason.PENDING, waiting))
    status = _unmark(_status(seen, Phase.PAUSED, "", ready=False, reason="Paused", why="frozen"), SANDBOX_RESUMED)
    kept = "memory and files are kept"
    return Decision(_mark(seen, status, SANDBOX_PAUSED, True, Reason.FREEZE_PAUSE_SUCCEED, kept))


def _paused(seen: Seen) -> Decision:
    done = conditions.find(seen.sandbox.status.conditions, SANDBOX_PAUSED)
    if done is not None and done.reason == Reason.FREEZE_PAUSE_SUCCEED:
        return _frozen(seen)
    if done is not None and done.status == "True":
        return _stopped(seen)
    if seen.pod is not None:
        status = _status(seen, Phase.PAUSED, "stopping the pod", ready=False, reason="Paused")
        status = _mark(seen, status, SANDBOX_PAUSED, False, Reason.PENDING, "the pod is being stopped")
        return Decision(status, () if seen.pod.meta.deletion_timestamp else (Act.DELETE_POD,))
    status = _status(seen, Phase.PAUSED, "", ready=False, reason="Paused", why="stopped")
    return Decision(_mark(seen, status, SANDBOX_PAUSED, True, Reason.STOP_PAUSE_SUCCEED, "volumes are kept"))


def _stopped(seen: Seen) -> Decision:
    if seen.sandbox.spec.paused:
        return Decision(seen.sandbox.status)
    status = _status(seen, Phase.RESUMING, "creating the pod anew", ready=False, reason="Resuming")
    status = _unmark(status, SANDBOX_PAUSED)
    return Decision(_mark(seen, status, SANDBOX_RESUMED, False, Reason.CREATE_POD))


def _frozen(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None and not seen.loss_confirmed:
        return Decision(seen.sandbox.status, (Act.CONFIRM_LOSS,))
    if pod is None or pod.meta.deletion_timestamp or pod.status.phase in ("Failed", "Succeeded"):
        return _lost(seen, "Pod Not Found: the frozen pod, and the memory in it, is lost")
    if seen.sandbox.spec.paused:
        again = pod_reading.desired(pod) != "frozen"  # taken up again after a half-done resume
        return Decision(seen.sandbox.status, (Act.FREEZE,) if again else ())
    if pod_reading.desired(pod) != "running":
        status = seen.sandbox.status
        if seen.trouble:
            status = _mark(seen, status, SANDBOX_RESUMED, False, Reason.RESUME_POD, seen.trouble)
        return Decision(status, (Act.THAW,))
    if seen.freezer and pod_reading.frozen(pod) is not False:
        return Decision(seen.sandbox.status)
    status = _unmark(_mirror(seen, pod), SANDBOX_PAUSED)
    return Decision(_mark(seen, status, SANDBOX_RESUMED, True, Reason.RESUME_POD))


def _resuming(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None:
        reason = Reason.POD_CREATE_FAILED if seen.trouble else "Resuming"
        status = _status(seen, Phase.RESUMING, seen.trouble or "creating the pod anew", ready=False, reason=reason)
        return Decision(status, (Act.CREATE_POD,))
    if pod.status.phase in ("Failed", "Succeeded"):
        return _ended(seen, pod)
    if pod.meta.deletion_timestamp:
        return Decision(_status(seen, Phase.RESUMING, "waiting for the old pod to go", ready=False, reason="Resuming"))
    if not pod_reading.ready(pod):
        return Decision(_status(seen, Phase.RESUMING, pod_reading.unready(pod), ready=False, reason="Resuming"))
    if not seen.initialised:
        status = _status(seen, Phase.RESUMING, seen.trouble or "initialising", ready=False, reason="Resuming")
        if seen.trouble:
            status = _mark(seen, status, RUNTIME_INITIALIZED, False, Reason.FAILED, seen.trouble)
        return Decision(status, (Act.INIT,))
    status = _mark(seen, _mirror(seen, pod), SANDBOX_RESUMED, True, Reason.CREATE_POD)
    return Decision(_mark(seen, status, RUNTIME_INITIALIZED, True, Reason.SUCCEEDED, pod_reading.incarnation(pod)))


# Common endings -----------------------------------------------------------------------------------------------------


def _mirror(seen: Seen, pod: Pod) -> SandboxStatus:
    """Running, and as ready as the pod; a runtime that lost its delivery's state is not ready."""
    if pod_reading.ready(pod) and not _needs_init(seen, pod):
        return _status(seen, Phase.RUNNING, ready=True, reason=Reason.POD_READY)
    why = seen.trouble or (pod_reading.unready(pod) if not pod_reading.ready(pod) else "the runtime restarted")
    trouble = pod_reading.start_failure(pod)
    reason = Reason.START_CONTAINER_FAILED if trouble else "PodNotReady"
    return _status(seen, Phase.RUNNING, why, ready=False, reason=reason)


def _needs_init(seen: Seen, pod: Pod) -> bool:
    """A container of a delivered sandbox restarted: the new runtime knows neither token nor environment."""
    if seen.initialised or not pod_reading.ready(pod) or not _restarted(seen, pod):
        return False
    done = conditions.find(seen.sandbox.status.conditions, RUNTIME_INITIALIZED)
    return done is None or done.status != "True" or done.message != pod_reading.incarnation(pod)


def _restarted(seen: Seen, pod: Pod) -> bool:
    """Whether a container restarted after the delivery; earlier ones were met by the delivery's own /init."""
    if seen.sandbox.meta.labels.get(labels.CLAIMED) != "true":
        return False
    delivered = times.parse_or_none(seen.sandbox.meta.annotations.get(labels.CLAIM_TIMESTAMP))
    return delivered is not None and pod_reading.restarted_after(pod, delivered)


def _ended(seen: Seen, pod: Pod) -> Decision:
    phase = Phase.SUCCEEDED if pod.status.phase == "Succeeded" else Phase.FAILED
    return Decision(_status(seen, phase, pod_reading.ending(pod), ready=False, reason=f"Pod{pod.status.phase}"))


def _lost(seen: Seen, message: str) -> Decision:
    return Decision(_status(seen, Phase.FAILED, message, ready=False, reason="PodNotFound"))
