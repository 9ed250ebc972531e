"""A pod's manifest as the node needs it: parsed once, with defaults filled in, refused by field name when it is wrong.

Pure: no I/O. Names of fields and defaults are those of the Kubernetes core/v1 API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from appliance.api import labels

Json = dict[str, Any]
_SUFFIXES = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_SUFFIXES |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", start=1)}
_QUANTITY = re.compile(r"^([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)([a-zA-Z]{0,2})$")


class BadSpec(ValueError):
    """A field this node cannot honour; the text names it."""


def quantity(value: object, field: str) -> float:
    """A resource quantity (``500m``, ``1Gi``, ``2``). Raises ``BadSpec`` naming ``field``."""
    match = _QUANTITY.match(str(value).strip())
    if match is None or match[2] not in _SUFFIXES:
        raise BadSpec(f"{field}: {value!r} is not a quantity such as 500m, 1Gi or 2")
    return float(match[1]) * _SUFFIXES[match[2]]


@dataclass(frozen=True, slots=True)
class Probe:
    """startup, readiness or liveness; times in seconds."""

    action: Json
    """One of httpGet, tcpSocket, exec, as in the manifest."""
    initial_delay: float
    period: float
    timeout: float
    success: int
    failure: int
    grace: int | None

    @classmethod
    def parse(cls, raw: Json | None, field: str) -> Probe | None:
        """None for None. Raises ``BadSpec``."""
        if raw is None:
            return None
        kinds = [kind for kind in ("httpGet", "tcpSocket", "exec") if raw.get(kind) is not None]
        if len(kinds) != 1:
            raise BadSpec(f"{field}: expected one of httpGet, tcpSocket, exec, found {kinds or sorted(raw)}")
        return cls(
            action={kinds[0]: raw[kinds[0]]},
            initial_delay=float(raw.get("initialDelaySeconds") or 0),
            period=max(1.0, float(raw.get("periodSeconds") or 10)),
            timeout=max(1.0, float(raw.get("timeoutSeconds") or 1)),
            success=max(1, int(raw.get("successThreshold") or 1)),
            failure=max(1, int(raw.get("failureThreshold") or 3)),
            grace=raw.get("terminationGracePeriodSeconds"),
        )


@dataclass(frozen=True, slots=True)
class Container:
    """One container, init or main."""

    name: str
    image: str
    raw: Json
    init: bool
    sidecar: bool
    """An init container that stays (``restartPolicy: Always``)."""
    startup: Probe | None
    readiness: Probe | None
    liveness: Probe | None
    cpu: float | None
    cpu_request: float
    memory: int | None
    disk: int | None

    @property
    def wants_runtime(self) -> bool:
        """Whether the controller asked for the runtime here, by its postStart hook."""
        hook = self.hook("postStart")
        return bool(hook) and str(hook[0]).rpartition("/")[2] == labels.RUNTIME_ENTRY

    @property
    def places_runtime(self) -> bool:
        """Whether this is the sidecar that copies the runtime into the shared volume."""
        names = {str(entry.get("name")) for entry in self.raw.get("env") or []}
        return self.init and labels.WORKSPACE_ENV in names

    def hook(self, name: str) -> list[str]:
        """Command of ``postStart`` or ``preStop``; empty when there is none. ``sleep`` is the program."""
        action = (self.raw.get("lifecycle") or {}).get(name) or {}
        if action.get("sleep"):
            return ["sleep", str(int(action["sleep"].get("seconds") or 0))]
        return list((action.get("exec") or {}).get("command") or [])

    def chained_hook(self) -> list[str]:
        """The postStart command to run inside: all of it, or what follows ``--`` of the runtime's own."""
        hook = self.hook("postStart")
        if not self.wants_runtime:
            return hook
        return hook[hook.index("--") + 1 :] if "--" in hook else []


@dataclass(frozen=True, slots=True)
class PodSpec:
    """What the node runs."""

    uid: str
    namespace: str
    name: str
    hostname: str
    init: tuple[Container, ...]
    containers: tuple[Container, ...]
    volumes: dict[str, Json]
    restart: str
    grace: int
    chosen_image: str = ""
    """Container whose image a claim chose: no other will do."""

    @property
    def all(self) -> tuple[Container, ...]:
        """Init containers, then the others."""
        return self.init + self.containers

    def disk(self, default: int) -> int:
        """Bytes of the writable layer: the sum of ephemeral-storage limits, else ``default``."""
        return sum(container.disk or 0 for container in self.all) or default

    @classmethod
    def parse(cls, pod: Json) -> PodSpec:
        """Raises ``BadSpec`` naming the field."""
        meta, spec = pod["metadata"], pod["spec"]
        restart = spec.get("restartPolicy") or "Always"
        if restart not in ("Always", "OnFailure", "Never"):
            raise BadSpec(f"spec.restartPolicy: expected Always, OnFailure or Never, found {restart!r}")
        containers = tuple(_container(raw, f"spec.containers[{n}]", False) for n, raw in enumerate(spec["containers"]))
        init = tuple(
            _container(raw, f"spec.initContainers[{n}]", True) for n, raw in enumerate(spec.get("initContainers") or [])
        )
        grace = spec.get("terminationGracePeriodSeconds")
        return cls(
            uid=meta["uid"],
            namespace=meta["namespace"],
            name=meta["name"],
            hostname=spec.get("hostname") or meta["name"],
            init=init,
            containers=containers,
            volumes={str(volume["name"]): volume for volume in spec.get("volumes") or []},
            restart=restart,
            grace=30 if grace is None else int(grace),
            chosen_image=str((meta.get("annotations") or {}).get(labels.CHOSEN_IMAGE) or ""),
        )


def _container(raw: Json, field: str, init: bool) -> Container:
    resources = raw.get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}

    def amount(source: Json, kind: str, key: str) -> float | None:
        value = source.get(key)
        return None if value is None else quantity(value, f"{field}.resources.{kind}.{key}")

    cpu, memory = amount(limits, "limits", "cpu"), amount(limits, "limits", "memory")
    size = amount(limits, "limits", "ephemeral-storage")
    request = amount(requests, "requests", "cpu")
    for name, action in (raw.get("lifecycle") or {}).items():
        if action and name in ("postStart", "preStop") and not (action.get("exec") or action.get("sleep")):
            raise BadSpec(f"{field}.lifecycle.{name}: expected exec or sleep, found {', '.join(sorted(action))}")
    if memory is not None and memory < 4 * 1024 * 1024:
        raise BadSpec(f"{field}.resources.limits.memory: {limits['memory']!r} is less than 4Mi")
    return Container(
        name=str(raw["name"]),
        image=str(raw.get("image") or ""),
        raw=raw,
        init=init,
        sidecar=init and raw.get("restartPolicy") == "Always",
        startup=Probe.parse(raw.get("startupProbe"), f"{field}.startupProbe"),
        readiness=Probe.parse(raw.get("readinessProbe"), f"{field}.readinessProbe"),
        liveness=Probe.parse(raw.get("livenessProbe"), f"{field}.livenessProbe"),
        cpu=cpu,
        cpu_request=request if request is not None else (cpu or 0.1),
        memory=None if memory is None else int(memory),
        disk=None if size is None else int(size),
    )
