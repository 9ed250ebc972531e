"""What the cluster's nodes can do that not every cluster can: asked of their labels, remembered for a short while."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.api.kinds import NODE
from appliance.api.labels import NODE_KEEPS_FILES, NODE_NETWORK_POLICY, NODE_SANDBOX_DISK
from appliance.api.quantities import quantity
from appliance.config import MIB
from appliance.kube.cluster import Cluster
from appliance.manager.errors import unsupported

REMEMBERED = 30.0
"""Seconds."""
_NO_FILES = "no node of this cluster can end a sandbox's processes and keep its files"
_NO_NETWORK = "no node of this cluster enforces network restrictions (with --isolation=process none does)"


class Abilities:
    """Of all nodes together: where one can, sandboxes are expected to be on such a node."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: dict[str, tuple[float, str]] = {}

    async def require_file_pauses(self, option: str) -> None:
        """Raise Fault 400 naming ``option`` where a pause cannot keep files without memory; KubeError."""
        if await self._value(NODE_KEEPS_FILES, "=true") != "true":
            raise unsupported(option, _NO_FILES)

    async def require_network(self, option: str) -> None:
        """Raise Fault 400 naming ``option`` where nothing can be closed to a sandbox; KubeError."""
        if await self._value(NODE_NETWORK_POLICY, "=true") != "true":
            raise unsupported(option, _NO_NETWORK)

    async def sandbox_disk(self) -> int:
        """MiB of disk of a sandbox whose template names none; 0: no limit. Raises KubeError."""
        try:
            return int(quantity(await self._value(NODE_SANDBOX_DISK)) // MIB)
        except ValueError:
            return 0

    async def _value(self, label: str, wanted: str = "") -> str:
        """What some node says, of those whose label is as ``wanted`` (a selector's rest); empty: none does."""
        known = self._known.get(label)
        if known is None or self._clock() - known[0] > REMEMBERED:
            found = await self._cluster.list(NODE, None, label_selector=label + wanted, limit=1)
            value = found.items[0].meta.labels.get(label, "") if found.items else ""
            known = self._known[label] = self._clock(), value
        return known[1]
