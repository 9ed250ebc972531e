"""What the operator may do, asked of the cluster before he tries: a SelfSubjectAccessReview for all that is needed.

One that may do something in a single namespace is not told that he may not do it at all: with all namespaces in view
an action is refused only when it is refused everywhere that is known. Where reviews are not answered nothing is
refused, and the write itself will tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from appliance.api import labels, structs
from appliance.api.kinds import Kind
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.act.table import ACTIONS, Action

REVIEW: Kind[Any] = Kind(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False, structs.Object
)
NAMESPACES = 10
"""Namespaces asked for at most."""
Need = tuple[str, str]
"""Verb and resource, with its subresource after a slash."""


async def refusals(cluster: Cluster, namespace: str | None, known: Sequence[str]) -> dict[str, str]:
    """Why not, by the name of each action that is not allowed.

    ``namespace`` None: all of them are in view, of which ``known`` hold anything.
    """
    found: dict[Need, str] = {}
    for need in dict.fromkeys(action.needs for action in ACTIONS if action.needs is not None):
        why = await _refused(cluster, need, namespace)
        for place in known[:NAMESPACES] if namespace is None else ():
            if why and not await _refused(cluster, need, place):
                why = ""
        if why:
            found[need] = why
    return {action.name: found[action.needs] for action in _needing(found)}  # type: ignore[index]


def _needing(found: dict[Need, str]) -> Iterable[Action]:
    return (action for action in ACTIONS if action.needs in found)


async def _refused(cluster: Cluster, need: Need, namespace: str | None) -> str:
    """Why not; empty when it is allowed, or when nobody answers that."""
    verb, (resource, _, part) = need[0], need[1].partition("/")
    group = "" if resource == "pods" else labels.GROUP
    asked = {"namespace": namespace or "", "verb": verb, "group": group, "resource": resource, "subresource": part}
    try:
        answer = await cluster.create(REVIEW, None, {"spec": {"resourceAttributes": asked}}, type=dict)
    except errors.KubeError:
        return ""
    status = answer.get("status") or {}
    if status.get("allowed", True):
        return ""
    where = f"in {namespace}" if namespace else "in any namespace"
    return f"you may not {verb} {need[1]} {where}"
