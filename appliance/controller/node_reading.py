"""What a node's status means for the sandboxes on it, in words for people who do not read node statuses. Pure."""

from __future__ import annotations

from appliance.api import conditions
from appliance.api.corestructs import Node


def silence(node: Node) -> str:
    """Why the node cannot be counted on; empty when it says that it is ready.

    A node that stops answering is noticed by the cluster after its grace period; what runs on it may go on running.
    """
    ready = conditions.find(node.status.conditions, conditions.READY)
    if ready is None or ready.status == "True":
        return ""
    since = f" since {ready.last_transition_time}" if ready.last_transition_time else ""
    if ready.status == "Unknown":
        return f"node {node.name} does not answer{since}; the sandbox is unreachable until it does"
    detail = f": {ready.message}" if ready.message else ""
    return f"node {node.name} is not ready{since}{detail}"
