"""A pod's row: the Ready, Status and Restarts that kubectl users read first."""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.tables.ages import age

Object = dict[str, Any]


def _statuses(pod: Object, field: str) -> list[Object]:
    return (pod.get("status") or {}).get(field) or []


def _sidecars(pod: Object) -> set[str]:
    return {c["name"] for c in pod["spec"].get("initContainers") or () if c.get("restartPolicy") == "Always"}


def _running(pod: Object) -> list[Object]:
    """Statuses of the containers that count: the main ones and the native sidecars."""
    sidecars = _sidecars(pod)
    inits = [s for s in _statuses(pod, "initContainerStatuses") if s.get("name") in sidecars]
    return inits + _statuses(pod, "containerStatuses")


def pod_ready(pod: Object) -> str:
    """``ready/total`` containers."""
    total = len(pod["spec"].get("containers") or ()) + len(_sidecars(pod))
    ready = sum(1 for s in _running(pod) if s.get("ready") and "running" in (s.get("state") or {}))
    return f"{ready}/{total}"


def pod_restarts(pod: Object) -> str:
    """Restarts, with the time of the last one."""
    statuses = _running(pod)
    count = sum(s.get("restartCount", 0) for s in statuses)
    last = max((_finished(s) for s in statuses), default="")
    return f"{count} ({age(last)} ago)" if count and last else str(count)


def _finished(status: Object) -> str:
    return str(((status.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or "")


def pod_status(pod: Object) -> str:
    """The word in the Status column: what is most wrong, else the phase."""
    status = pod.get("status") or {}
    word = _init_word(pod)
    if word is None:
        word = _main_word(pod, str(status.get("reason") or status.get("phase") or "Unknown"))
    if "deletionTimestamp" in pod["metadata"]:
        return "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return word


def _init_word(pod: Object) -> str | None:
    """``Init:…`` while an init container is not done; None afterwards."""
    total = len(pod["spec"].get("initContainers") or ())
    sidecars = _sidecars(pod)
    for index, status in enumerate(_statuses(pod, "initContainerStatuses")):
        state = status.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and terminated.get("exitCode") == 0:
            continue
        if status.get("name") in sidecars and status.get("started"):
            continue
        if terminated is not None:
            return "Init:" + _end_word(terminated)
        if waiting.get("reason") not in (None, "", "PodInitializing"):
            return f"Init:{waiting['reason']}"
        return f"Init:{index}/{total}"
    return None


def _end_word(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _main_word(pod: Object, word: str) -> str:
    running = False
    for status in reversed(_statuses(pod, "containerStatuses")):
        state = status.get("state") or {}
        if (state.get("waiting") or {}).get("reason"):
            word = state["waiting"]["reason"]
        elif state.get("terminated") is not None:
            word = _end_word(state["terminated"])
        elif status.get("ready") and "running" in state:
            running = True
    if word == "Completed" and running:
        conditions = (pod.get("status") or {}).get("conditions") or ()
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)
        return "Running" if ready else "NotReady"
    return word
