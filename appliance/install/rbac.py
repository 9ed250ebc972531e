"""Least privilege: per role, exactly the calls its code makes.

A test compares these rules with the calls in the sources, both ways where a rule could be left over. Sandboxes live
in any namespace, so their rules are a ClusterRole; Secrets are never listed there, only those that are named after a
sandbox are made, read and removed. What belongs to the program itself is a Role in its own namespace.
"""

from __future__ import annotations

from typing import Any, Final

from appliance.api import labels

Rule = tuple[str, str, tuple[str, ...]]
"""API group, resource (with subresource), verbs."""

CONTROLLER: Final = "sandbox-controller-manager"
MANAGER: Final = "sandbox-manager"
KEEP: Final = {"helm.sh/resource-policy": "keep"}
"""Annotation: Helm leaves such objects when a release goes; with the definitions every sandbox would go."""
_READ: Final = ("get", "list", "watch")

CLUSTER: Final[dict[str, tuple[Rule, ...]]] = {
    CONTROLLER: (
        (labels.GROUP, "sandboxes", (*_READ, "create", "patch", "delete")),
        (labels.GROUP, "sandboxes/status", ("patch",)),
        (labels.GROUP, "sandboxes/finalizers", ("update",)),  # to own pods with blockOwnerDeletion
        (labels.GROUP, "sandboxsets", _READ),
        (labels.GROUP, "sandboxsets/status", ("patch",)),
        (labels.GROUP, "sandboxsets/finalizers", ("update",)),
        (labels.GROUP, "sandboxclaims", (*_READ, "delete")),
        (labels.GROUP, "sandboxclaims/status", ("patch",)),
        (labels.GROUP, "sandboxclaims/finalizers", ("update",)),
        (labels.GROUP, "sandboxtemplates", (*_READ, "create", "delete")),
        (labels.GROUP, "sandboxupdateops", (*_READ, "patch")),
        (labels.GROUP, "sandboxupdateops/status", ("patch",)),
        ("", "pods", (*_READ, "create", "patch", "delete")),
        ("", "pods/resize", ("patch",)),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations", ("get", "patch")),  # caBundle
        ("", "persistentvolumeclaims", ("create",)),
        ("", "nodes", _READ),
        ("", "events", ("create",)),
        ("", "secrets", ("get", "create", "patch", "delete")),
    ),
    MANAGER: (
        (labels.GROUP, "sandboxes", (*_READ, "create", "patch", "delete")),
        (labels.GROUP, "sandboxsets", (*_READ, "patch", "delete")),  # tags of templates; DELETE /templates/{id}
        (labels.GROUP, "sandboxsets/finalizers", ("update",)),
        (labels.GROUP, "sandboxtemplates", _READ),
        ("", "pods", ("get", "watch", "patch")),
        ("", "pods/log", ("get",)),
        ("", "namespaces", ("get",)),
        ("", "nodes", ("list",)),  # whether they can keep a sandbox's files without its memory
        ("", "secrets", ("get", "create", "patch", "delete")),
    ),
}
OWN: Final[dict[str, tuple[Rule, ...]]] = {
    CONTROLLER: (
        ("coordination.k8s.io", "leases", ("get", "create", "patch")),
        ("", "configmaps", ("create", "patch")),  # the claim report: claims/ledger.py
    ),
    MANAGER: (
        ("", "secrets", _READ),
        ("", "configmaps", ("create", "patch")),
    ),
}


def selector(name: str) -> dict[str, str]:
    """The labels by which everything finds a role's objects and pods."""
    return {"app.kubernetes.io/name": "appliance", "app.kubernetes.io/component": name}


def objects(namespace: str) -> list[dict[str, Any]]:
    """Service accounts, roles and their bindings."""
    made: list[dict[str, Any]] = []
    for name, rules in CLUSTER.items():
        meta = {"name": name, "namespace": namespace, "labels": selector(name)}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}
        made += [
            account,
            *_pair("Cluster", name, None, namespace, rules),
            *_pair("", name, namespace, namespace, OWN[name]),
        ]
    return made


def _pair(
    scope: str, name: str, place: str | None, namespace: str, rules: tuple[Rule, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    version = "rbac.authorization.k8s.io/v1"
    meta = {"name": name, **({"namespace": place} if place else {}), "labels": selector(name)}
    role = {
        "apiVersion": version,
        "kind": f"{scope}Role",
        "metadata": dict(meta),
        "rules": [_rule(one) for one in rules],
    }
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": f"{scope}Role", "name": name}
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]
    binding = {"apiVersion": version, "kind": f"{scope}RoleBinding", "metadata": dict(meta)}
    return role, {**binding, "roleRef": reference, "subjects": subjects}


def _rule(rule: Rule) -> dict[str, Any]:
    group, resource, verbs = rule
    return {"apiGroups": [group], "resources": [resource], "verbs": list(verbs)}
