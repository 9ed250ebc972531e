"""Worlds, sources and changes for the tests of the flight deck: everything fixed, nothing from a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from appliance.api import claimreport, corestructs, labels, structs, times
from appliance.api.claimreport import Delivery, Failure, Waiting
from appliance.kube.cluster import Cluster
from tui.model.alerts import WatchHealth
from tui.model.change import BY_PLURAL, WATCHED, Change
from tui.model.world import World

T0 = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC).timestamp()
"""The present of most tests."""


def stamp(at: float, micro: bool = False) -> str:
    """RFC 3339."""
    return times.format(datetime.fromtimestamp(at, UTC), micro=micro)


def sandbox(
    name: str,
    *,
    at: float = T0 - 60,
    pool: str = "py",
    namespace: str = "default",
    claimed: float | None = None,
    phase: str = "Running",
    ready: bool = True,
    reason: str = "PodReady",
    message: str = "",
    version: int = 1,
    on_demand: bool = False,
    shutdown: float | None = None,
    pause: float | None = None,
    paused: bool = False,
    paused_done: bool = False,
    deleted: bool = False,
    claim: str = "",
    lock: str = "",
) -> structs.Sandbox:
    """A Sandbox; in its pool unless ``claimed`` says when it was delivered."""
    own = {labels.POOL: pool, labels.TEMPLATE: pool, labels.CLAIMED: "true" if claimed else "false"}
    notes: dict[str, str] = {}
    if claimed is not None:
        own[labels.SANDBOX_ID] = f"i{name.replace('-', '')}0000000000000000000"[:21]
        notes = {labels.OWNER: "key-1", labels.CLAIM_TIMESTAMP: stamp(claimed, micro=True)}
    if lock:
        notes[labels.LOCK] = lock
    if on_demand:
        notes[labels.PRIORITY] = "100"
    if claim:
        own[labels.CLAIM_NAME] = claim
    owner = {"apiVersion": labels.API_VERSION, "kind": "SandboxSet", "name": pool, "uid": pool, "controller": True}
    conditions = [
        {
            "type": "Ready",
            "status": str(ready),
            "reason": reason,
            "message": message,
            "lastTransitionTime": stamp(at + 2),
        }
    ]
    if paused or paused_done:
        told = {"type": "SandboxPaused", "status": str(paused_done), "lastTransitionTime": stamp(at + 5)}
        conditions.append({**told, "reason": "FreezePauseSucceed" if paused_done else "Pending", "message": ""})
    body: dict[str, Any] = {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "resourceVersion": str(version),
            "creationTimestamp": stamp(at),
            "labels": own,
            "annotations": notes,
            "ownerReferences": [] if claimed is not None else [owner],
            "deletionTimestamp": stamp(T0) if deleted else None,
        },
        "spec": {
            "paused": paused,
            "shutdownTime": stamp(shutdown) if shutdown is not None else None,
            "pauseTime": stamp(pause) if pause is not None else None,
        },
        "status": {
            "phase": phase,
            "conditions": conditions if phase else [],
            "nodeName": "box",
            "sandboxIp": f"10.0.0.{len(name)}",
        },
    }
    return msgspec.convert(body, structs.Sandbox)


def pool(name: str = "py", replicas: int = 3, *, namespace: str = "default", **status: Any) -> structs.SandboxSet:
    """A SandboxSet that its controller has caught up with, unless ``status`` says otherwise."""
    container = {"name": "sandbox", "image": "python:3.11", "env": [{"name": "TOKEN", "value": "geheim"}]}
    told = {"replicas": replicas, "availableReplicas": replicas, "updatedReplicas": replicas}
    body = {
        "metadata": {"name": name, "namespace": namespace, "uid": name, "resourceVersion": "7", "generation": 1},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [container]}}},
        "status": {**told, "updateRevision": "79f5456bc", "observedGeneration": 1, **status},
    }
    return msgspec.convert(body, structs.SandboxSet)


def claim(
    name: str, *, at: float, wanted: int = 1, got: int = 0, started: float | None = None, ended: float | None = None,
    template: str = "py", message: str = "",
) -> structs.SandboxClaim:  # fmt: skip
    """A SandboxClaim."""
    status = {
        "phase": "Completed" if ended is not None else "Claiming" if started is not None else "",
        "claimedReplicas": got,
        "claimStartTime": stamp(started) if started is not None else None,
        "completionTime": stamp(ended) if ended is not None else None,
        "message": message,
    }
    meta = {"name": name, "namespace": "default", "uid": name, "creationTimestamp": stamp(at), "resourceVersion": "1"}
    body = {"metadata": meta, "spec": {"templateName": template, "replicas": wanted}, "status": status}
    return msgspec.convert(body, structs.SandboxClaim)


def event(name: str, about: str, *, at: float, reason: str, message: str) -> corestructs.CoreEvent:
    """A warning about a sandbox."""
    meta = {"name": name, "namespace": "default", "uid": name}
    whom = {"kind": "Sandbox", "namespace": "default", "name": about}
    body = {"metadata": meta, "involvedObject": whom, "type": "Warning", "reason": reason, "message": message}
    return msgspec.convert({**body, "count": 1, "lastTimestamp": stamp(at)}, corestructs.CoreEvent)


def node(name: str = "box", *, ready: bool = True) -> corestructs.Node:
    """A Node."""
    told = {"type": "Ready", "status": str(ready), "reason": "KubeletReady" if ready else "KubeletDown"}
    return msgspec.convert({"metadata": {"name": name}, "status": {"conditions": [told]}}, corestructs.Node)


def report(at: float, name: str = "sandbox-manager-claims-0", **told: Any) -> corestructs.ConfigMap:
    """A claim report."""
    meta = {"name": name, "namespace": labels.SYSTEM_NAMESPACE, "uid": name}
    body = {"metadata": meta, "data": claimreport.encode(claimreport.Report(at, **told))}
    return msgspec.convert(body, corestructs.ConfigMap)


_PLURAL = {kind.struct: kind.plural for kind in BY_PLURAL.values()}


def put(at: float, item: structs.Object) -> Change:
    """The object appears or changes at ``at``."""
    return Change(at, _PLURAL[type(item)], item.key, item)


def gone(at: float, item: structs.Object) -> Change:
    """The object is deleted at ``at``."""
    return Change(at, _PLURAL[type(item)], item.key, None)


def world(changes: Iterable[Change]) -> World:
    """The world after those changes."""
    made = World()
    for change in changes:
        made.apply(change)
    return made


def busy_changes() -> list[Change]:
    """A small fleet in every state: three pools (one dry, one failing), claims, a stuck pause, a long name."""
    changes = [put(T0 - 300, pool("py", 4)), put(T0 - 300, pool("dry-pool", 2)), put(T0 - 300, node())]
    changes.append(put(T0 - 300, pool("broken", 1, observedGeneration=0)))
    changes += [put(T0 - 200 + n, sandbox(f"py-aaaa{n}", at=T0 - 200 + n)) for n in range(6)]
    for index in range(3):
        at = T0 - 40 + 10 * index
        item = sandbox(f"py-aaaa{index}", at=T0 - 200 + index, claimed=at, shutdown=T0 + 20 + 200 * index, version=2,
                       lock=f"lock-{index}")  # fmt: skip
        changes.append(put(at + 0.004 * (index + 1), item))
    changes.append(put(T0 - 100, sandbox("py-frozen", at=T0 - 190, claimed=T0 - 150, paused=True, version=2)))
    cold = sandbox("dry-pool-cold", at=T0 - 6, pool="dry-pool", claimed=T0 - 6, on_demand=True, phase="", ready=False)
    changes.append(put(T0 - 5.9, cold))
    changes.append(put(T0 - 20, sandbox("broken-x1", at=T0 - 30, pool="broken", phase="Pending", ready=False,
                                        reason="StartContainerFailed", message="image not found: nope:1")))  # fmt: skip
    changes.append(put(T0 - 19, event("e1", "broken-x1", at=T0 - 19, reason="Failed", message="image not found")))
    changes.append(put(T0 - 8, claim("batch", at=T0 - 8)))
    changes.append(put(T0 - 7.5, claim("batch", at=T0 - 8, wanted=3, got=1, started=T0 - 8)))
    changes.append(put(T0 - 3, claim("nobody", at=T0 - 3, template="absent")))
    told = [
        Delivery(f"lock-{n}", T0 - 40 + 10 * n + 0.02, 0.00001, 0.0006, 0.006 + n / 250, 0.0, 0.012, "pool")
        for n in range(2)
    ]
    line = Waiting("default", "dry-pool", T0 - 4, "waiting in line to create a sandbox")
    refused = Failure("default", "dry-pool", T0 - 12, 30.0, "NoStock", "template 'dry-pool' has no available sandbox")
    changes.append(put(T0 - 2, report(T0 - 2, deliveries=told, waiting=[line], failures=[refused])))
    return sorted(changes, key=lambda change: change.at)


class FixedSource:
    """A Source at a standstill: its present is ``at`` until a test moves it."""

    def __init__(
        self, changes: Iterable[Change] = (), *, cluster: Cluster | None = None, at: float = T0, ready: bool = True
    ) -> None:
        self.world = world(changes)
        self.world.advance(at)
        self.cluster = cluster
        self.label = "box.example:6443"
        self.at = at
        self.ready = ready
        self.watches = [WatchHealth(kind.plural, "live", lag=0.004) for kind in WATCHED]

    def now(self) -> float:
        """The present."""
        return self.at

    def health(self) -> list[WatchHealth]:
        """As the test says."""
        return self.watches

    def worsen(self, state: str, detail: str) -> None:
        """All watches are in that state."""
        self.watches = [WatchHealth(kind.plural, state, detail, self.at - 42) for kind in WATCHED]

    async def run(self) -> None:
        """Nothing happens."""
        await asyncio.Event().wait()
