"""Taking a template away: its SandboxSet is deleted, and with it the warm sandboxes; delivered ones forbid it."""

from __future__ import annotations

from appliance.api.kinds import SANDBOXSET
from appliance.api.structs import SandboxSet
from appliance.kube.cluster import Cluster
from appliance.kube.errors import Conflict, NotFound
from appliance.manager.errors import Fault, template_not_found
from appliance.manager.roster import Roster
from appliance.manager.runstate import Run


class Shelf:
    """Deletes templates."""

    def __init__(self, cluster: Cluster, roster: Roster) -> None:
        self._cluster = cluster
        self._roster = roster

    async def delete(self, pool: SandboxSet) -> None:
        """Raises Fault 400 while a running or paused sandbox of it exists, 404 when it was gone, KubeError."""
        alive = (entry for entry, run in self._roster.delivered() if run is not Run.GONE)
        used = sum((one.sandbox.namespace, one.template) == pool.key for one in alive)
        if used:
            word = "sandbox" if used == 1 else "sandboxes"
            raise Fault(400, f"cannot delete template '{pool.name}' because there are {used} {word} using it")
        try:
            await self._cluster.delete(SANDBOXSET, pool.namespace, pool.name, uid=pool.uid)
        except (NotFound, Conflict):
            raise template_not_found(pool.name) from None
