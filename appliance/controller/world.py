"""What every controller works with: the cluster, its cached copies, and the few services they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from appliance.api import kinds, labels, times
from appliance.api.corestructs import Node, Pod
from appliance.api.structs import Sandbox, SandboxClaim, SandboxSet, SandboxTemplate, SandboxUpdateOps
from appliance.claims.runtime_client import RuntimeClient
from appliance.config import ControllerSettings
from appliance.controller import indexes
from appliance.controller.events import EventRecorder
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

Key = tuple[str, str]
"""Namespace and name."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Shared by all controllers of one process."""

    cluster: Cluster
    settings: ControllerSettings
    seed: bytes
    sandboxes: Informer[Sandbox]
    sets: Informer[SandboxSet]
    claims: Informer[SandboxClaim]
    templates: Informer[SandboxTemplate]
    operations: Informer[SandboxUpdateOps]
    pods: Informer[Pod]
    nodes: Informer[Node]
    events: EventRecorder
    runtime: RuntimeClient
    clock: Callable[[], datetime] = times.now

    @property
    def informers(self) -> tuple[Informer[Any], ...]:
        """All of them, for running and waiting."""
        return (self.nodes, self.templates, self.sets, self.pods, self.sandboxes, self.claims, self.operations)

    async def synced(self) -> None:
        """Wait until every copy is complete."""
        await asyncio.gather(*(informer.synced() for informer in self.informers))


def make_world(cluster: Cluster, settings: ControllerSettings, seed: bytes) -> World:
    """The informers with their indexes, not yet running; pods are limited to those of sandboxes."""
    scope = settings.namespace
    ours = f"{labels.CREATED_BY}={labels.CREATED_BY_SANDBOX}"
    return World(
        cluster=cluster,
        settings=settings,
        seed=seed,
        sandboxes=Informer(cluster, kinds.SANDBOX, namespace=scope, indexes=indexes.SANDBOXES),
        sets=Informer(cluster, kinds.SANDBOXSET, namespace=scope, indexes=indexes.SETS),
        claims=Informer(cluster, kinds.SANDBOXCLAIM, namespace=scope, indexes=indexes.CLAIMS),
        templates=Informer(cluster, kinds.SANDBOXTEMPLATE, namespace=scope, indexes=indexes.TEMPLATES),
        operations=Informer(cluster, kinds.SANDBOXUPDATEOPS, namespace=scope),
        pods=Informer(cluster, kinds.POD, namespace=scope, label_selector=ours),
        nodes=Informer(cluster, kinds.NODE),
        events=EventRecorder(cluster),
        runtime=RuntimeClient(),
    )
