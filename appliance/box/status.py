"""``appliance status``: one screen that says whether the box or cluster is well, and what its pools hold."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from appliance.api.corestructs import Node
from appliance.api.kinds import NODE, SANDBOX, SANDBOXSET
from appliance.api.states import sandbox_state
from appliance.api.structs import Sandbox, SandboxSet
from appliance.kube.cluster import Cluster

STORE_NEEDS = 4 * 1024 * 1024
"""Bytes without which the store soon refuses writes."""


async def report(cluster: Cluster) -> str:
    """Pools, sandboxes by state, and nodes, as text for a terminal."""
    sets = (await cluster.list(SANDBOXSET)).items
    sandboxes = (await cluster.list(SANDBOX)).items
    nodes = (await cluster.list(NODE)).items
    return "\n".join([*_pools(sets), "", *_sandboxes(sandboxes), "", *_nodes(nodes)])


def disk_shortage(data_dir: Path) -> str:
    """Says that the box's disk has no room, else empty: a full store cannot take the condition that says so."""
    if not data_dir.is_dir() or shutil.disk_usage(data_dir).free >= STORE_NEEDS:
        return ""
    return f"disk: no room at {data_dir}: nothing can be created or changed until some is made"


def _pools(sets: list[SandboxSet]) -> list[str]:
    if not sets:
        return ["pools: none (apply a SandboxSet: appliance apply -f FILE)"]
    width = max(len(f"{pool.meta.namespace}/{pool.meta.name}") for pool in sets)
    rows = [
        f"  {pool.meta.namespace + '/' + pool.meta.name:<{width}}  "
        f"{pool.status.available_replicas:>5} of {pool.spec.replicas} available"
        for pool in sets
    ]
    return ["pools:", *rows]


def _sandboxes(sandboxes: list[Sandbox]) -> list[str]:
    now = datetime.now(UTC)
    counts = Counter(sandbox_state(sandbox, now)[0].value for sandbox in sandboxes)
    total = ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "none"
    failing = [
        f"  {sandbox.meta.namespace}/{sandbox.meta.name}: {sandbox.status.message}"
        for sandbox in sandboxes
        if sandbox.status.phase == "Failed" or (sandbox.status.phase == "Pending" and sandbox.status.message)
    ]
    return [f"sandboxes: {total}", *failing[:10]]


def _nodes(nodes: list[Node]) -> list[str]:
    rows = []
    for node in nodes:
        troubles = [
            f"{c.type}: {c.message or c.reason}"
            for c in node.status.conditions
            if (c.type == "Ready") != (c.status == "True")
        ]
        rows.append(f"  {node.meta.name}: {'; '.join(troubles) or 'ready'}")
    return ["nodes:", *(rows or ["  none"])]
