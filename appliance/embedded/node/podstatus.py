"""A pod's status, computed from its containers' states. Pure: the clock is the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from appliance.api import labels
from appliance.embedded.node.podspec import Container, PodSpec

Json = dict[str, Any]


def stamp(seconds: float) -> str:
    """Unix seconds as RFC 3339 with whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass
class Ended:
    """How a container's last run ended."""

    code: int
    reason: str
    started: float
    finished: float
    message: str = ""

    def state(self) -> Json:
        """``state.terminated``."""
        body = {"exitCode": self.code, "reason": self.reason, "startedAt": stamp(self.started)}
        body |= {"finishedAt": stamp(self.finished)}
        if self.message:
            body["message"] = self.message
        return {"terminated": body}


@dataclass
class ContainerState:
    """Of one container, as the node knows it."""

    waiting: str = "ContainerCreating"
    """Reason while it does not run."""
    message: str = ""
    running_since: float | None = None
    started: bool = False
    """Startup probe passed (or none) and postStart done."""
    ready: bool = False
    restarts: int = 0
    ended: Ended | None = None
    """Final end: it will not be started again."""
    last: Ended | None = None
    """End of the run before the present one."""
    image: str = ""
    """Image of the present or last run; empty before the first."""
    id: str = ""
    """Names the present or last run."""
    resources: Json | None = None
    """cpu and memory in force; None where nothing enforces them."""

    def status(self, container: Container) -> Json:
        """``containerStatuses[]``."""
        if self.ended is not None:
            state = self.ended.state()
        elif self.running_since is not None:
            state = {"running": {"startedAt": stamp(self.running_since)}}
        else:
            state = {"waiting": {"reason": self.waiting} | ({"message": self.message} if self.message else {})}
        finished_init = container.init and self.ended is not None and self.ended.code == 0
        return {
            "name": container.name,
            "image": self.image or container.image,
            "imageID": self.image or container.image,
            **({"containerID": f"appliance://{self.id}"} if self.id else {}),
            **({"resources": self.resources} if self.resources is not None else {}),
            "state": state,
            "lastState": self.last.state() if self.last else {},
            "ready": self.ready or finished_init,
            "started": self.started,
            "restartCount": self.restarts,
        }


@dataclass
class PodState:
    """Of one pod. ``extra`` holds conditions beyond the four usual ones: type -> (status, reason)."""

    containers: dict[str, ContainerState]
    ip: str = ""
    host_ip: str = ""
    start_time: float = 0.0
    failure: tuple[str, str] | None = None
    """(reason, message) of a pod that can never run."""
    extra: dict[str, tuple[bool, str]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    """type of a condition in ``extra`` -> its message."""
    generation: int = 0
    """``metadata.generation`` of the pod that all of this is about; 0: unknown."""
    ignored: str = ""
    """Fields of the manifest that have no effect here."""
    transitions: dict[str, tuple[str, float]] = field(default_factory=dict)
    """type -> (status, since) of the conditions written last."""

    def phase(self, spec: PodSpec) -> str:
        """Pending, Running, Succeeded or Failed."""
        if self.failure is not None:
            return "Failed"
        if any(self._failed(container) for container in spec.init if not container.sidecar):
            return "Failed"
        mains = [self.containers[container.name] for container in spec.containers]
        if all(state.ended is not None for state in mains):
            return "Succeeded" if all(state.ended and state.ended.code == 0 for state in mains) else "Failed"
        begun = any(s.running_since is not None or s.last is not None or s.ended is not None for s in mains)
        return "Running" if begun else "Pending"

    def _failed(self, container: Container) -> bool:
        ended = self.containers[container.name].ended
        return ended is not None and ended.code != 0

    def status(self, spec: PodSpec, now: float) -> Json:
        """The whole status; remembers when each condition last changed."""
        status: Json = {
            "phase": self.phase(spec),
            "conditions": self._conditions(spec, now),
            "containerStatuses": [self.containers[c.name].status(c) for c in spec.containers],
            "startTime": stamp(self.start_time),
            "hostIP": self.host_ip,
            "hostIPs": [{"ip": self.host_ip}],
            "qosClass": "Burstable",
        }
        if self.generation:
            status["observedGeneration"] = self.generation
        if spec.init:
            status["initContainerStatuses"] = [self.containers[c.name].status(c) for c in spec.init]
        if self.ip:
            status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        if self.failure is not None:
            status |= {"reason": self.failure[0], "message": self.failure[1]}
        return status

    def _conditions(self, spec: PodSpec, now: float) -> list[Json]:
        initialized = all(self._initialized(container) for container in spec.init)
        unready = [c.name for c in spec.containers if not self.containers[c.name].ready]
        reason = f"containers not ready: {', '.join(unready)}" if unready else ""
        facts: dict[str, tuple[bool, str, str]] = {
            "PodScheduled": (True, "", ""),
            "Initialized": (initialized, "" if initialized else "ContainersNotInitialized", ""),
            "ContainersReady": (not unready, "ContainersNotReady" if unready else "", reason),
            "Ready": (not unready, "ContainersNotReady" if unready else "", reason),
        }
        facts |= {kind: (value, why, self.messages.get(kind, "")) for kind, (value, why) in self.extra.items()}
        if self.ignored:
            facts[labels.CONDITION_MANIFEST] = (False, "FieldsIgnored", f"no effect on this node: {self.ignored}")
        return [self._condition(kind, *fact, now) for kind, fact in facts.items()]

    def _initialized(self, container: Container) -> bool:
        state = self.containers[container.name]
        return state.started if container.sidecar else state.ended is not None and state.ended.code == 0

    def _condition(self, kind: str, value: bool, reason: str, message: str, now: float) -> Json:
        status = "True" if value else "False"
        known = self.transitions.get(kind)
        since = known[1] if known is not None and known[0] == status else now
        self.transitions[kind] = (status, since)
        body = {"type": kind, "status": status, "lastTransitionTime": stamp(since), "lastProbeTime": None}
        return body | ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
