"""A delivered sandbox whose container ended and was started again: what its owner has to be told. Pure.

To clients such a sandbox looks as before: same id, running, reachable. But its processes and what was in its memory are
gone, so the condition ``Restarted`` says so for the rest of its life; the controller tells it as an event and the
manager writes it into the sandbox's log. A restart that was asked for (a pause without memory, another image) has
conditions of its own and is not told here.
"""

from __future__ import annotations

from appliance.api import conditions
from appliance.api.conditions import RESTARTED, RUNTIME_INITIALIZED, Reason
from appliance.api.corestructs import Pod
from appliance.api.structs import SandboxStatus
from appliance.controller import inplace, inplace_plan, pod_reading
from appliance.controller.inplace import Stage
from appliance.controller.sandbox_seen import Seen, mark, unmark


def restart_told(seen: Seen, pod: Pod, status: SandboxStatus) -> SandboxStatus:
    """``status`` with the news of a restart, once for each; called when the runtime was initialised after one.

    Unlike other conditions' the transition time moves with every restart: it says when the last one was noticed.
    """
    before = seen.sandbox.status
    known = conditions.find(before.conditions, RUNTIME_INITIALIZED)
    if known is not None and known.message == pod_reading.incarnation(pod):
        return status
    change = inplace.progress_of(pod)
    if change.stage is not Stage.NONE and not inplace_plan.settled(before, change.revision):
        return status  # the containers were replaced by request
    return mark(seen, unmark(status, RESTARTED), RESTARTED, True, Reason.CONTAINER_ENDED, _words(seen, pod))


def _words(seen: Seen, pod: Pod) -> str:
    files = "its files are kept" if seen.keeps_files else "of its files only volumes are kept"
    return (
        f"{pod_reading.last_ends(pod)}; it was started again (restart {pod_reading.restarts(pod)}): its processes and "
        f"what they had in memory are lost, {files}"
    )
