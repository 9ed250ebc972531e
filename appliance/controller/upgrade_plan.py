"""``spec.upgradePolicy: Recreate``, the deciding part: preUpgrade, a new pod, /init, postUpgrade.

Where it stands is the reason of condition ``Upgrading``; its message begins with the upgrade's name, a hash of template
and hooks. So a hook that failed is tried again when either changes and not before, and a controller that dies goes on
where the status says (a hook that was running is run again). A preUpgrade that fails leaves the sandbox as it was.
"""

from __future__ import annotations

from appliance.api import conditions
from appliance.api.conditions import SANDBOX_PAUSED, UPGRADING, Phase, Reason
from appliance.api.corestructs import Pod
from appliance.api.structs import SandboxStatus
from appliance.controller import pod_reading
from appliance.controller.sandbox_seen import Act, Decision, Seen, make_status, mark, mirror, unmark

RECREATE = "Recreate"
_NO_CHECKPOINTS = (
    "spec.upgradePolicy.type: expected Recreate, got {!r}: checkpoints do not exist here; nothing was changed"
)


def wanted(seen: Seen) -> bool:
    """Whether a running sandbox has an upgrade by policy ahead of it."""
    if seen.sandbox.spec.upgrade_policy is None or not seen.sandbox.spec.upgrade_policy.type:
        return False
    return seen.change is not None or _unfinished(seen)


def words(upgrade: str, message: str = "") -> str:
    """The condition's message."""
    return f"upgrade {upgrade}: {message}" if message else f"upgrade {upgrade}"


def begin(seen: Seen, pod: Pod) -> Decision:
    """Of a running sandbox: start, unless this very upgrade has failed before anything was changed."""
    policy = seen.sandbox.spec.upgrade_policy
    if policy is None or policy.type != RECREATE:
        said = _NO_CHECKPOINTS.format(policy.type if policy else "")
        return Decision(mark(seen, mirror(seen, pod), UPGRADING, False, Reason.NOT_SUPPORTED, said))
    if _failed_before(seen, Reason.PRE_UPGRADE_FAILED):
        return Decision(mirror(seen, pod))
    return Decision(_at(seen, Reason.POST_UPGRADE if seen.change is None else Reason.PRE_UPGRADE))


def step(seen: Seen) -> Decision:
    """Of a sandbox that is being upgraded."""
    said = conditions.find(seen.sandbox.status.conditions, UPGRADING)
    match said.reason if said is not None else "":
        case Reason.PRE_UPGRADE:
            return _before(seen)
        case Reason.POST_UPGRADE:
            return _after(seen)
        case _:
            return _replace(seen)


def _before(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is not None and seen.change is None:  # the template was taken back
        return Decision(unmark(mirror(seen, pod), UPGRADING))
    if pod is not None and not pod.meta.deletion_timestamp and _hook(seen, "preUpgrade"):
        if seen.hook is None:
            return Decision(_at(seen, Reason.PRE_UPGRADE), (Act.PRE_UPGRADE,))
        if seen.hook:
            failed = words(seen.upgrade, seen.hook)
            return Decision(mark(seen, mirror(seen, pod), UPGRADING, False, Reason.PRE_UPGRADE_FAILED, failed))
    return Decision(_at(seen, Reason.UPGRADE_POD))


def _replace(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None:
        if seen.trouble:
            return Decision(_at(seen, Reason.UPGRADE_POD_FAILED, seen.trouble), (Act.CREATE_POD,))
        return Decision(_at(seen, Reason.UPGRADE_POD, "the pod is being created"), (Act.CREATE_POD,))
    if pod.meta.deletion_timestamp:
        return Decision(_at(seen, Reason.UPGRADE_POD, "waiting for the old pod to go"))
    if seen.change is not None:
        return Decision(_at(seen, Reason.UPGRADE_POD, "the old pod is being deleted"), (Act.DELETE_POD,))
    if pod.status.phase in ("Failed", "Succeeded"):
        return Decision(_at(seen, Reason.UPGRADE_POD_FAILED, pod_reading.ending(pod)))
    if not pod_reading.ready(pod):
        stuck = pod_reading.start_failure(pod)
        reason = Reason.UPGRADE_POD_FAILED if stuck else Reason.UPGRADE_POD
        return Decision(_at(seen, reason, stuck or pod_reading.unready(pod)))
    if not seen.initialised:
        return Decision(_at(seen, Reason.UPGRADE_POD, seen.trouble or "initialising the runtime"), (Act.INIT,))
    return Decision(_at(seen, Reason.POST_UPGRADE)) if _hook(seen, "postUpgrade") else _succeeded(seen, pod)


def _after(seen: Seen) -> Decision:
    pod = seen.pod
    if pod is None or pod.meta.deletion_timestamp or seen.change is not None or not pod_reading.ready(pod):
        return Decision(_at(seen, Reason.UPGRADE_POD))
    if _hook(seen, "postUpgrade"):
        if seen.hook is None:
            return Decision(_at(seen, Reason.POST_UPGRADE), (Act.POST_UPGRADE,))
        if seen.hook:
            failed = words(seen.upgrade, seen.hook)
            return Decision(mark(seen, mirror(seen, pod), UPGRADING, False, Reason.POST_UPGRADE_FAILED, failed))
    return _succeeded(seen, pod)


def _succeeded(seen: Seen, pod: Pod) -> Decision:
    status = unmark(mirror(seen, pod), SANDBOX_PAUSED)
    return Decision(mark(seen, status, UPGRADING, True, Reason.SUCCEEDED, words(seen.upgrade)))


def _at(seen: Seen, reason: str, message: str = "") -> SandboxStatus:
    status = make_status(seen, Phase.UPGRADING, message, ready=False, reason=Reason.UPGRADING)
    return mark(seen, status, UPGRADING, False, reason, words(seen.upgrade, message))


def _hook(seen: Seen, name: str) -> bool:
    return bool((seen.sandbox.spec.lifecycle or {}).get(name))


def _failed_before(seen: Seen, reason: str) -> bool:
    said = conditions.find(seen.sandbox.status.conditions, UPGRADING)
    return said is not None and said.reason == reason and said.message.startswith(words(seen.upgrade))


def _unfinished(seen: Seen) -> bool:
    """The new pod runs, its postUpgrade failed, and the hooks were changed since: go on from there."""
    said = conditions.find(seen.sandbox.status.conditions, UPGRADING)
    failed = said is not None and said.reason == Reason.POST_UPGRADE_FAILED
    return failed and not _failed_before(seen, Reason.POST_UPGRADE_FAILED)
