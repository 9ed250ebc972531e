"""Who may delete or evict the pod of a sandbox: the rule of the admission webhook, and of the box's own API server.

A pod that somebody's sandbox lives in is ended by ending the sandbox, not behind its back by ``kubectl drain`` or
``kubectl delete pod``. Members of pools are nobody's yet and may go: their pool replaces them. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from appliance.api import labels
from appliance.api.states import in_pool
from appliance.api.structs import Sandbox

CONTROLLER_USER = f"system:serviceaccount:{labels.SYSTEM_NAMESPACE}:sandbox-controller-manager"
EXEMPT_GROUPS = frozenset({"system:nodes", "system:serviceaccounts:kube-system"})
"""Kubelets, which remove what has ended, and Kubernetes' own controllers, which clean up after nodes and namespaces."""


def sandbox_of(pod: Mapping[str, Any]) -> tuple[str, str] | None:
    """Name and uid of the Sandbox that owns the pod, from its metadata; None when it is no sandbox's pod."""
    meta = pod.get("metadata") or {}
    if (meta.get("labels") or {}).get(labels.CREATED_BY) != labels.CREATED_BY_SANDBOX:
        return None
    for owner in meta.get("ownerReferences") or []:
        if owner.get("kind") == "Sandbox" and str(owner.get("apiVersion", "")).startswith(f"{labels.GROUP}/"):
            return str(owner.get("name")), str(owner.get("uid"))
    return None


def exempt(user: str, groups: Collection[str], controller: str = CONTROLLER_USER) -> bool:
    """Whether this caller may end any pod."""
    return user == controller or bool(EXEMPT_GROUPS & set(groups))


def refusal(pod: Mapping[str, Any], sandbox: Sandbox | None, verb: str) -> str:
    """Why the pod may not be ended; empty when it may. ``sandbox`` is what ``sandbox_of`` names, if it exists."""
    meta = pod.get("metadata") or {}
    found = sandbox_of(pod)
    if found is None or sandbox is None or sandbox.uid != found[1]:
        return ""
    over = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    if over or meta.get("deletionTimestamp") or sandbox.meta.deletion_timestamp or in_pool(sandbox):
        return ""
    name = f"{meta.get('namespace')}/{meta.get('name')}"
    return f"cannot {verb} pod {name}: corresponding sandbox exists; delete the Sandbox {sandbox.name!r} instead"
