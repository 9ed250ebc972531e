"""Pause and resume of a Sandbox, the deciding part.

Freeze: everything happens to the pod first, and Paused is written once it is true. Stop: Paused comes first, because a
stopped pod looks like a lost one. What keeps files without memory is in ``halt_plan``.
"""

from __future__ import annotations

import msgspec

from appliance.api import conditions
from appliance.api.conditions import RUNTIME_INITIALIZED, SANDBOX_PAUSED, SANDBOX_RESUMED, Phase, Reason
from appliance.api.corestructs import Pod
from appliance.controller import pod_body, pod_reading, shrinking
from appliance.controller.halt_plan import from_frozen, halted, start_halt
from appliance.controller.pausing import PauseKind, Unpausable, files_only, pause_kind
from appliance.controller.sandbox_seen import Act, Decision, Seen, ended, lost, make_status, mark, mirror, unmark


def start_pause(seen: Seen, pod: Pod) -> Decision:
    """Freeze: everything happens to the pod first, and Paused is written once it is true. Stop: Paused comes first."""
    try:
        spec, files = seen.effective or seen.sandbox.spec, files_only(seen.sandbox)
        able = seen.freezer or pod_body.wants_runtime({"spec": {"containers": pod.spec.containers}})
        kind = pause_kind(spec, freezer=able, keeps_files=seen.keeps_files, files=files)
    except Unpausable as error:
        status = mark(seen, mirror(seen, pod), SANDBOX_PAUSED, False, Reason.FAILED, str(error))
        return Decision(msgspec.structs.replace(status, message=str(error)))
    if kind is PauseKind.HALT:
        return start_halt(seen, pod)
    if kind is PauseKind.STOP:
        status = make_status(seen, Phase.PAUSED, "stopping the pod", ready=False, reason="Paused")
        status = unmark(status, SANDBOX_RESUMED, RUNTIME_INITIALIZED)
        return Decision(mark(seen, status, SANDBOX_PAUSED, False, Reason.PENDING, "the pod is being stopped"))
    if pod_reading.desired(pod) != "frozen":
        status = mark(seen, mirror(seen, pod), SANDBOX_PAUSED, False, Reason.PENDING, "freezing every process")
        if seen.trouble:
            status = mark(seen, mirror(seen, pod), SANDBOX_PAUSED, False, Reason.FAILED, seen.trouble)
        return Decision(status, (Act.FREEZE,))
    if seen.freezer and pod_reading.frozen(pod) is not True:
        waiting = f"waiting for node {pod.spec.node_name} to freeze every process"
        return Decision(mark(seen, mirror(seen, pod), SANDBOX_PAUSED, False, Reason.PENDING, waiting))
    status = unmark(make_status(seen, Phase.PAUSED, "", ready=False, reason="Paused", why="frozen"), SANDBOX_RESUMED)
    kept = "memory and files are kept"
    return Decision(mark(seen, status, SANDBOX_PAUSED, True, Reason.FREEZE_PAUSE_SUCCEED, kept))


def paused(seen: Seen) -> Decision:
    done = conditions.find(seen.sandbox.status.conditions, SANDBOX_PAUSED)
    if done is not None and done.reason == Reason.FREEZE_PAUSE_SUCCEED:
        return _frozen(seen)
    if done is not None and done.reason == Reason.FILESYSTEM_PAUSE_SUCCEED:
        return halted(seen)
    if done is not None and done.status == "True":
        return _stopped(seen)
    if seen.pod is not None:
        status = make_status(seen, Phase.PAUSED, "stopping the pod", ready=False, reason="Paused")
        status = mark(seen, status, SANDBOX_PAUSED, False, Reason.PENDING, "the pod is being stopped")
        return Decision(status, () if seen.pod.meta.deletion_timestamp else (Act.DELETE_POD,))
    status = make_status(seen, Phase.PAUSED, "", ready=False, reason="Paused", why="stopped")
    return Decision(mark(seen, status, SANDBOX_PAUSED, True, Reason.STOP_PAUSE_SUCCEED, "volumes are kept"))


def _stopped(seen: Seen) -> Decision:
    if seen.sandbox.spec.paused:
        return Decision(seen.sandbox.status)
    status = make_status(seen, Phase.RESUMING, "creating the pod anew", ready=False, reason="Resuming")
    status = unmark(status, SANDBOX_PAUSED)
    return Decision(mark(seen, status, SANDBOX_RESUMED, False, Reason.CREATE_POD))


def _frozen(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None and not seen.loss_confirmed:
        return Decision(seen.sandbox.status, (Act.CONFIRM_LOSS,))
    if pod is None or pod.meta.deletion_timestamp or pod.status.phase in ("Failed", "Succeeded"):
        return lost(seen, "Pod Not Found: the frozen pod, and the memory in it, is lost")
    if (decision := from_frozen(seen, pod)) is not None:
        return decision
    if seen.sandbox.spec.paused:
        again = pod_reading.desired(pod) != "frozen"  # taken up again after a half-done resume
        if again:
            return Decision(seen.sandbox.status, (Act.FREEZE,))
        return Decision(seen.sandbox.status, (Act.SHRINK,) if not seen.freezer and shrinking.due(pod) else ())
    if pod_reading.desired(pod) != "running":
        status = seen.sandbox.status
        if seen.trouble:
            status = mark(seen, status, SANDBOX_RESUMED, False, Reason.RESUME_POD, seen.trouble)
        return Decision(status, (Act.THAW,))
    if seen.freezer and pod_reading.frozen(pod) is not False:
        return Decision(seen.sandbox.status)
    status = unmark(mirror(seen, pod), SANDBOX_PAUSED)
    return Decision(mark(seen, status, SANDBOX_RESUMED, True, Reason.RESUME_POD))


def resuming(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None:
        reason = Reason.POD_CREATE_FAILED if seen.trouble else "Resuming"
        status = make_status(seen, Phase.RESUMING, seen.trouble or "creating the pod anew", ready=False, reason=reason)
        return Decision(status, (Act.CREATE_POD,))
    if pod.status.phase in ("Failed", "Succeeded"):
        return ended(seen, pod)
    if pod.meta.deletion_timestamp:
        return Decision(
            make_status(seen, Phase.RESUMING, "waiting for the old pod to go", ready=False, reason="Resuming")
        )
    if pod_reading.halted(pod) or not pod_reading.ready(pod):
        return Decision(make_status(seen, Phase.RESUMING, pod_reading.unready(pod), ready=False, reason="Resuming"))
    if not seen.initialised:
        status = make_status(seen, Phase.RESUMING, seen.trouble or "initialising", ready=False, reason="Resuming")
        if seen.trouble:
            status = mark(seen, status, RUNTIME_INITIALIZED, False, Reason.FAILED, seen.trouble)
        return Decision(status, (Act.INIT,))
    status = mark(seen, mirror(seen, pod), SANDBOX_RESUMED, True, Reason.CREATE_POD)
    return Decision(mark(seen, status, RUNTIME_INITIALIZED, True, Reason.SUCCEEDED, pod_reading.incarnation(pod)))
