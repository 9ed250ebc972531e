"""What the cluster's nodes can do that not every cluster can: asked of their labels, remembered for a short while."""

from __future__ import annotations

import time
from collections.abc import Callable

from appliance.api.kinds import NODE
from appliance.api.labels import NODE_KEEPS_FILES
from appliance.kube.cluster import Cluster
from appliance.manager.errors import unsupported

REMEMBERED = 30.0
"""Seconds."""
_WHY = "no node of this cluster can end a sandbox's processes and keep its files"


class Abilities:
    """Of all nodes together: where one can, sandboxes are expected to be on such a node."""

    def __init__(self, cluster: Cluster, clock: Callable[[], float] = time.monotonic) -> None:
        self._cluster = cluster
        self._clock = clock
        self._known: tuple[float, bool] | None = None

    async def require_file_pauses(self, option: str) -> None:
        """Raise Fault 400 naming ``option`` where a pause cannot keep files without memory; KubeError."""
        if self._known is None or self._clock() - self._known[0] > REMEMBERED:
            found = await self._cluster.list(NODE, None, label_selector=f"{NODE_KEEPS_FILES}=true", limit=1)
            self._known = self._clock(), bool(found.items)
        if not self._known[1]:
            raise unsupported(option, _WHY)
