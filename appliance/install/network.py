"""Who may talk to whom.

Sandboxes run untrusted code: only managers and controllers reach them, and they reach name servers and the internet,
but neither each other nor anything at a private or link-local address, such as the API server or a cloud's metadata.
Controllers take connections of the API server, on the port of their webhook; managers take them on their one port.
"""

from __future__ import annotations

from typing import Any

from appliance.api import labels
from appliance.install import admission
from appliance.install.nodes import Each, Item, filled
from appliance.install.rbac import CONTROLLER, MANAGER, selector
from appliance.install.workloads import PORT

PRIVATE = ("10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
PRIVATE_V6 = ("fc00::/7", "fe80::/10")


SANDBOXES = "appliance-sandboxes"
"""Name of the policy in every namespace of sandboxes."""


def objects(namespace: str) -> list[Any]:
    """The policies of the system namespace, and one in each namespace of sandboxes."""
    webhook = [{"ports": [{"protocol": "TCP", "port": admission.PORT}]}]  # an API server has no label to name it by
    controller = {"ingress": webhook, "policyTypes": ["Ingress"]}
    manager = {"ingress": [{"ports": [{"protocol": "TCP", "port": PORT}]}], "policyTypes": ["Ingress"]}
    rules = {"ingress": [{"from": _ours(namespace)}], "egress": _egress(), "policyTypes": ["Ingress", "Egress"]}
    sandbox = {labels.CREATED_BY: labels.CREATED_BY_SANDBOX}
    made = [
        _policy(namespace, CONTROLLER, selector(CONTROLLER), controller),
        _policy(namespace, MANAGER, selector(MANAGER), manager),
        Each("sandboxNamespaces", _policy(Item(), SANDBOXES, sandbox, rules)),
    ]
    return [filled("networkPolicies.enabled", policy) for policy in made]


def _ours(namespace: str) -> list[dict[str, Any]]:
    there = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    return [
        {"namespaceSelector": there, "podSelector": {"matchLabels": selector(name)}} for name in (CONTROLLER, MANAGER)
    ]


def _egress() -> list[dict[str, Any]]:
    names = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    dns = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
    internet = [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(PRIVATE)}},
        {"ipBlock": {"cidr": "::/0", "except": list(PRIVATE_V6)}},
    ]
    return [{"to": [names], "ports": dns}, {"to": internet}]


def _policy(namespace: str | Item, name: str, pods: dict[str, str], rules: dict[str, Any]) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace, "labels": selector(name)}
    spec = {"podSelector": {"matchLabels": pods}, **rules}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}
