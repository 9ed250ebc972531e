"""A pause that keeps files without memory, the deciding part: the pod stays, its processes end, a resume boots it.

As with Freeze everything happens to the pod first, and Paused is written once it is true. A frozen sandbox becomes a
halted one when somebody asks for that (a connect with ``memory: false``), or when its node reports that the processes
are gone: then the memory is lost, and the condition says so.
"""

from __future__ import annotations

from appliance.api.conditions import RUNTIME_INITIALIZED, SANDBOX_PAUSED, SANDBOX_RESUMED, Phase, Reason
from appliance.api.corestructs import Pod
from appliance.controller import pod_reading
from appliance.controller.pausing import files_only
from appliance.controller.sandbox_seen import Act, Decision, Seen, lost, make_status, mark, mirror, unmark

_KEPT = "files are kept, processes have ended"
_LOST = "files are kept, the memory is lost: the box was restarted while the sandbox was frozen"


def start_halt(seen: Seen, pod: Pod) -> Decision:
    """From running to paused."""
    if pod_reading.desired(pod) == "halted" and pod_reading.halted(pod):
        return _done(seen, _KEPT)
    status = mark(seen, mirror(seen, pod), SANDBOX_PAUSED, False, Reason.PENDING, "ending every process")
    return Decision(status, () if pod_reading.desired(pod) == "halted" else (Act.HALT,))


def from_frozen(seen: Seen, pod: Pod) -> Decision | None:
    """What becomes of a frozen sandbox that loses, or has lost, its memory; None: nothing of that kind."""
    desired = pod_reading.desired(pod)
    if pod_reading.halted(pod):
        return _done(seen, _KEPT if desired == "halted" else _LOST)
    if desired == "halted":
        return Decision(seen.sandbox.status)
    if seen.sandbox.spec.paused and files_only(seen.sandbox) and seen.keeps_files:
        return Decision(seen.sandbox.status, (Act.HALT,))
    return None


def halted(seen: Seen) -> Decision:
    """Paused, until it is resumed: then the pod boots, and everything else is as for a pod made anew."""
    pod = seen.pod
    if pod is None and not seen.loss_confirmed:
        return Decision(seen.sandbox.status, (Act.CONFIRM_LOSS,))
    if pod is None or pod.meta.deletion_timestamp or pod.status.phase in ("Failed", "Succeeded"):
        return lost(seen, "Pod Not Found: the pod of the paused sandbox, and the files in it, is lost")
    if seen.sandbox.spec.paused:
        return Decision(seen.sandbox.status, () if pod_reading.desired(pod) == "halted" else (Act.HALT,))
    if pod_reading.desired(pod) != "running":
        return Decision(seen.sandbox.status, (Act.THAW,))
    status = make_status(seen, Phase.RESUMING, "booting from the files that were kept", ready=False, reason="Resuming")
    return Decision(mark(seen, unmark(status, SANDBOX_PAUSED), SANDBOX_RESUMED, False, Reason.RESUME_POD))


def _done(seen: Seen, kept: str) -> Decision:
    status = make_status(seen, Phase.PAUSED, "", ready=False, reason="Paused", why="halted")
    status = unmark(status, SANDBOX_RESUMED, RUNTIME_INITIALIZED)
    return Decision(mark(seen, status, SANDBOX_PAUSED, True, Reason.FILESYSTEM_PAUSE_SUCCEED, kept))
