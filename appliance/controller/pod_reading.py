"""What a pod's status means, in words for people who do not read pod statuses."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from appliance.api import conditions, labels, times
from appliance.api.corestructs import ContainerStateTerminated, ContainerStatus, Pod

_START_FAILURES = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "PostStartHookError",
        "CrashLoopBackOff",
    }
)
"""Waiting reasons of the kubelet that do not go away by waiting a moment."""
_STOP_GRACE = 5
"""Seconds a pod gets to end when its sandbox is paused or gets a new one, unless its template gives it fewer."""


def ready(pod: Pod) -> bool:
    """Whether the pod is running and its Ready condition is True."""
    return pod.status.phase == "Running" and conditions.is_true(pod.status.conditions, conditions.READY)


def frozen(pod: Pod) -> bool | None:
    """What the node says of the freezer: True, False, or None while it has not said."""
    found = conditions.find(pod.status.conditions, labels.CONDITION_FROZEN)
    return None if found is None or found.status not in ("True", "False") else found.status == "True"


def halted(pod: Pod) -> bool:
    """Whether the node says that every process has ended and the files are kept."""
    return conditions.is_true(pod.status.conditions, labels.CONDITION_HALTED)


def desired(pod: Pod) -> str:
    """The state asked of the node: ``frozen``, ``halted``, ``running`` or empty."""
    return pod.meta.annotations.get(labels.DESIRED_STATE, "")


def owned_by(pod: Pod, uid: str) -> bool:
    """Whether the pod belongs to the object with that uid."""
    return any(ref.uid == uid for ref in pod.meta.owner_references)


def start_failure(pod: Pod) -> str:
    """Why a container cannot start; empty when none is in trouble."""
    for status in _containers(pod):
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _START_FAILURES:
            detail = f": {waiting.message}" if waiting.message else ""
            return f"container {status.name} does not start: {waiting.reason}{detail}{_last(status)}"
    return ""


def unscheduled(pod: Pod) -> str:
    """Why no node takes the pod; empty when one did, or nothing was tried yet."""
    found = conditions.find(pod.status.conditions, "PodScheduled")
    return found.message if found is not None and found.status == "False" else ""


_DISRUPTIONS = {
    "PreemptionByScheduler": "preempted by a pod of higher priority",
    "DeletionByTaintManager": "removed because its node was lost or tainted",
    "EvictionByEvictionAPI": "evicted by request, as when its node is drained",
    "DeletionByPodGC": "removed because its node is gone",
    "TerminationByKubelet": "evicted by its node",
}
"""Reasons of the pod condition DisruptionTarget (kubernetes.io/docs/concepts/workloads/pods/disruptions)."""


def disruption(pod: Pod) -> str:
    """How the cluster took the pod away, or says it will; empty when it did not."""
    found = conditions.find(pod.status.conditions, "DisruptionTarget")
    if found is None or found.status != "True":
        return ""
    what = _DISRUPTIONS.get(found.reason, f"disrupted ({found.reason})")
    return f"the pod was {what}: {found.message}" if found.message else f"the pod was {what}"


def ending(pod: Pod) -> str:
    """How a pod that is Succeeded or Failed came to its end; what the cluster says of it as a whole comes first."""
    whole = ": ".join(part for part in (pod.status.reason, pod.status.message) if part)
    if whole:
        return whole
    told = [text for status in _containers(pod) if (text := _end_of(status.name, status.state.terminated))]
    if told:
        return "; ".join(told)
    return f"the pod is {pod.status.phase} and gives no reason"


def unready(pod: Pod) -> str:
    """Why a pod is not Ready."""
    trouble = start_failure(pod)
    if trouble:
        return trouble
    told = ended_containers(pod)
    if told:
        return told
    found = conditions.find(pod.status.conditions, conditions.READY)
    if found is not None and found.message:
        return found.message
    return unscheduled(pod) or f"the pod is {pod.status.phase or 'new'} and not ready yet"


def ended_containers(pod: Pod) -> str:
    """How containers that are not ready again came to their last end; empty when none did."""
    told = [text for status in _containers(pod) if not status.ready and (text := _last(status).removeprefix("; "))]
    return "; ".join(told)


def last_ends(pod: Pod) -> str:
    """How the containers that were started again came to the end before; a default where the node does not say."""
    started_again = [status for status in pod.status.container_statuses if status.restart_count]
    told = [text for status in started_again if (text := _end_of(status.name, status.last_state.terminated))]
    return "; ".join(told) or "the pod's processes ended"


def restarts(pod: Pod) -> int:
    """Container restarts so far: each lost what the runtime had in memory."""
    return sum(status.restart_count for status in pod.status.container_statuses)


def restarted_after(pod: Pod, instant: datetime) -> bool:
    """Whether a container that restarted may be running since after ``instant``.

    Start times are whole seconds, cut off: within the second of ``instant`` the answer is yes, because a runtime that
    is initialised twice does no harm, and one that is never initialised stays closed.
    """
    second = instant.replace(microsecond=0)
    for status in pod.status.container_statuses:
        running = status.state.running
        started = times.parse_or_none(running.started_at) if running is not None else None
        if status.restart_count and started is not None and started >= second:
            return True
    return False


def incarnation(pod: Pod) -> str:
    """Names this pod and this run of its containers."""
    return f"pod {pod.uid}, container restarts {restarts(pod)}"


def stop_grace(pod: Pod) -> int:
    """Seconds until the kubelet kills a pod that its sandbox outlives.

    Never 0, with which the API server would drop the pod before the kubelet has ended it, and the next one could meet
    it on their volume.
    """
    own = pod.spec.termination_grace_period_seconds
    return _STOP_GRACE if own is None else max(1, min(own, _STOP_GRACE))


def _containers(pod: Pod) -> Iterable[ContainerStatus]:
    yield from pod.status.init_container_statuses
    yield from pod.status.container_statuses


def _last(status: ContainerStatus) -> str:
    text = _end_of(status.name, status.last_state.terminated)
    return f"; {text}" if text else ""


def _end_of(name: str, end: ContainerStateTerminated | None) -> str:
    if end is None:
        return ""
    if end.reason == "OOMKilled":
        return f"container {name} was killed: out of memory (exit code {end.exit_code})"
    detail = f": {end.message}" if end.message else ""
    reason = f" ({end.reason})" if end.reason and end.reason != "Error" else ""
    return f"container {name} ended with exit code {end.exit_code}{reason}{detail}"
