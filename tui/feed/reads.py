"""Reads of single things from the cluster: an object as YAML, and a log that follows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import yaml

from appliance.api.kinds import POD, Kind
from appliance.kube.cluster import Cluster
from tui.model.change import Key

TAIL = 1000
"""Lines of a log to begin with."""
QUIET = 3600.0
"""Seconds without a line after which following ends."""


async def object_yaml(cluster: Cluster, kind: Kind[Any], key: Key) -> str:
    """The object as the cluster has it, without ``managedFields``. Raises KubeError."""
    body = await cluster.get(kind, *key, type=dict)
    body.get("metadata", {}).pop("managedFields", None)
    return yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=100)


async def follow_log(cluster: Cluster, key: Key) -> AsyncIterator[str]:
    """The last lines of the sandbox's container, then every new one until it ends. Raises KubeError."""
    path = POD.path(*key, "log")
    params = {"follow": "true", "tailLines": str(TAIL)}
    lines = cluster.source(POD).transport.lines("log", path, params, inactivity=QUIET)
    async with aclosing(lines):
        async for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r")
