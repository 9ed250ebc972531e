"""A running pod whose sandbox got another template, the deciding part: change it, wait for the node, tell.

The pod is changed first; what its node has still to do is read from the pod (``inplace``), so a controller that dies in
between finds it there. A change that failed stays told until the template is changed again or the node succeeds after
all.
"""

from __future__ import annotations

from appliance.api import conditions
from appliance.api.conditions import INPLACE_UPDATE, READY, Phase, Reason
from appliance.api.corestructs import Pod
from appliance.api.structs import SandboxStatus
from appliance.controller import inplace
from appliance.controller.inplace import Change, Stage
from appliance.controller.sandbox_seen import Act, Decision, Seen, make_status, mark, mirror, unmark

FORBIDDEN = (
    "the new template differs in more than images, cpu, memory, labels and annotations, and a running pod can change "
    "nothing else: the pod keeps the old one until the sandbox is recreated (spec.upgradePolicy Recreate), or is "
    "paused with pauseStrategy Stop and resumed"
)


def changing(seen: Seen, pod: Pod, change: Change) -> Decision:
    """The pod does not conform to the template yet."""
    if change.forbidden:
        return Decision(mark(seen, mirror(seen, pod), INPLACE_UPDATE, False, Reason.FORBIDDEN, FORBIDDEN))
    if seen.trouble:
        status = mark(seen, mirror(seen, pod), INPLACE_UPDATE, False, Reason.FAILED, seen.trouble)
        return Decision(status, (Act.UPDATE_POD,))
    message = "the pod is being changed"
    status = _in_change(seen, message) if change.disturbs else mirror(seen, pod)
    return Decision(mark(seen, status, INPLACE_UPDATE, False, Reason.INPLACE_UPDATING, message), (Act.UPDATE_POD,))


def waiting(seen: Seen, pod: Pod) -> Decision | None:
    """The pod conforms on paper and its node is still at work, or has failed; None: there is nothing to wait for."""
    progress = inplace.progress_of(pod)
    if settled(seen.sandbox.status, progress.revision) or progress.stage in (Stage.NONE, Stage.DONE):
        return None
    if progress.stage is Stage.FAILED:
        return Decision(mark(seen, mirror(seen, pod), INPLACE_UPDATE, False, Reason.FAILED, progress.message))
    status = _in_change(seen, progress.message)
    return Decision(mark(seen, status, INPLACE_UPDATE, False, Reason.INPLACE_UPDATING, progress.message))


def told(seen: Seen, pod: Pod, status: SandboxStatus) -> SandboxStatus:
    """The status of a sandbox whose pod is as it should be, with the news that the last change succeeded."""
    progress = inplace.progress_of(pod)
    if progress.stage is Stage.DONE and conditions.is_true(status.conditions, READY):
        return mark(seen, status, INPLACE_UPDATE, True, Reason.SUCCEEDED, _words(progress.revision))
    said = conditions.find(status.conditions, INPLACE_UPDATE)
    stale = said is not None and said.status != "True" and progress.stage is Stage.NONE
    return unmark(status, INPLACE_UPDATE) if stale else status


def settled(status: SandboxStatus, revision: str) -> bool:
    """Whether this change was told to have succeeded: what happens to the containers later is not its failure."""
    said = conditions.find(status.conditions, INPLACE_UPDATE)
    return said is not None and said.status == "True" and said.message == _words(revision)


def _words(revision: str) -> str:
    return f"the pod has template revision {revision}"


def _in_change(seen: Seen, message: str) -> SandboxStatus:
    return make_status(seen, Phase.RUNNING, message, ready=False, reason=Reason.INPLACE_UPDATING)
