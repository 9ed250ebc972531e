"""What a Sandbox should do next: pure, decided from what is seen.

``decide`` returns a status and the actions that lead on. The order of effects is fixed by the controller: actions
first, then another look; the status is written when there is nothing left to do at once. Where a crash in between could
be misread (a stopped pod looks like a lost one), the status says what is intended before the action is returned.
Pauses are decided in ``pause_plan``, changes of a running pod in ``inplace_plan``.
"""

from __future__ import annotations

import msgspec

from appliance.api import labels
from appliance.api.conditions import RUNTIME_INITIALIZED, SANDBOX_PAUSED, Phase, Reason
from appliance.controller import inplace_plan, pod_reading, upgrade_plan
from appliance.controller.pause_plan import paused, resuming, start_pause
from appliance.controller.restart_plan import restart_told
from appliance.controller.sandbox_seen import (
    Act,
    Decision,
    Seen,
    ended,
    lost,
    make_status,
    mark,
    mirror,
    needs_init,
    restarted,
    unmark,
)

__all__ = ["Act", "Decision", "Seen", "decide"]


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
            return paused(seen)
        case Phase.RESUMING:
            return resuming(seen)
        case Phase.UPGRADING:
            return upgrade_plan.step(seen)
        case _:
            return _pending(seen)


def _terminate(seen: Seen) -> Decision:
    sandbox, pod = seen.sandbox, seen.pod
    if labels.FINALIZER_SANDBOX not in sandbox.meta.finalizers:
        return Decision(sandbox.status)
    if pod is None or not pod_reading.owned_by(pod, sandbox.uid):
        return Decision(sandbox.status, (Act.RELEASE,))
    status = make_status(seen, Phase.TERMINATING, "waiting for the pod to end", ready=False, reason="Terminating")
    return Decision(status, () if pod.meta.deletion_timestamp else (Act.DELETE_POD,))


def _foreign_pod(seen: Seen) -> Decision:
    """A pod of an earlier sandbox of this name, about to be collected; or somebody else's, which stays in the way."""
    phase = seen.sandbox.status.phase or Phase.PENDING
    message = f"waiting for pod {seen.sandbox.name}, which belongs to another owner, to go"
    bare = msgspec.structs.replace(seen.sandbox.status)
    status = make_status(_without_pod(seen), phase, message, ready=False, reason="PodOwnerMismatch")
    return Decision(status if phase != Phase.PAUSED else bare)


def _without_pod(seen: Seen) -> Seen:
    return Seen(sandbox=seen.sandbox, pod=None, freezer=seen.freezer, now=seen.now, trouble=seen.trouble)


def _pending(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None:
        if seen.trouble:
            status = make_status(seen, Phase.PENDING, seen.trouble, ready=False, reason=Reason.POD_CREATE_FAILED)
            return Decision(status, (Act.CREATE_POD,))
        status = make_status(seen, Phase.PENDING, "the pod is being created", ready=False, reason=Reason.PENDING)
        return Decision(status, (Act.CREATE_POD,))
    if pod.status.phase in ("Failed", "Succeeded"):
        return ended(seen, pod)
    if pod.meta.deletion_timestamp:
        return lost(seen, "Pod Not Found: the pod was deleted before it was running")
    if pod.status.phase == "Running":
        return Decision(mirror(seen, pod))
    trouble = pod_reading.start_failure(pod)
    reason = Reason.START_CONTAINER_FAILED if trouble else Reason.PENDING
    why = trouble or pod_reading.unready(pod)
    if not trouble and pod_reading.unscheduled(pod):
        reason, why = Reason.UNSCHEDULABLE, f"no node takes the pod: {pod_reading.unscheduled(pod)}"
    elif seen.silence:
        reason, why = Reason.NODE_NOT_READY, seen.silence
    return Decision(make_status(seen, Phase.PENDING, why, ready=False, reason=reason))


def _running(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None and not seen.loss_confirmed:
        return Decision(seen.sandbox.status, (Act.CONFIRM_LOSS,))
    if pod is None or pod.meta.deletion_timestamp:
        return lost(seen, "Pod Not Found: the pod was deleted while the sandbox was running")
    if pod.status.phase in ("Failed", "Succeeded"):
        return ended(seen, pod)
    if seen.sandbox.spec.paused:
        return start_pause(seen, pod)
    if pod_reading.desired(pod) in ("frozen", "halted"):  # a pause that was taken back before it was complete
        return Decision(mirror(seen, pod), (Act.THAW,))
    if upgrade_plan.wanted(seen):
        return upgrade_plan.begin(seen, pod)
    if seen.change is not None:
        return inplace_plan.changing(seen, pod, seen.change)
    if (decision := inplace_plan.waiting(seen, pod)) is not None:
        return decision
    if needs_init(seen, pod):
        return Decision(mirror(seen, pod), (Act.INIT,))
    status = unmark(mirror(seen, pod), SANDBOX_PAUSED)
    if seen.initialised and restarted(seen, pod):
        status = restart_told(seen, pod, status)
        status = mark(seen, status, RUNTIME_INITIALIZED, True, Reason.SUCCEEDED, pod_reading.incarnation(pod))
    return Decision(inplace_plan.told(seen, pod, status))
