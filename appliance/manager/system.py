"""Namespaces, as far as the manager needs them: its own must exist, a team is one that exists."""

from __future__ import annotations

from appliance.api.kinds import NAMESPACE
from appliance.kube.cluster import Cluster
from appliance.kube.errors import AlreadyExists, ApiError, Forbidden


async def ensure_namespace(cluster: Cluster, name: str) -> None:
    """Create the namespace unless it exists; not being allowed to is left to the write that follows."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    try:
        await cluster.create(NAMESPACE, None, body)
    except (AlreadyExists, Forbidden):
        return


async def namespace_exists(cluster: Cluster, name: str) -> bool:
    """Whether there is such a namespace. A name no namespace can have is simply not there."""
    try:
        await cluster.get(NAMESPACE, None, name)
    except ApiError as error:
        if error.status in (400, 404, 422):
            return False
        raise
    return True
