"""How the API server reaches the controllers' webhook: a Service, and the configuration that names it.

Only pods that a sandbox owns are asked about when they are deleted; an eviction names a pod without its labels, so all
of them are asked about outside the system's own namespaces. ``failurePolicy: Ignore``: while no controller answers,
pods can be ended as in any cluster. The controllers fill in ``caBundle``.
"""

from __future__ import annotations

from typing import Any

from appliance.api import labels
from appliance.install.rbac import CONTROLLER, selector

PORT = 9443
PATH = "/validate-pods"


def objects(namespace: str) -> list[dict[str, Any]]:
    """Service and ValidatingWebhookConfiguration."""
    port = {"name": "webhook", "protocol": "TCP", "port": 443, "targetPort": PORT}
    meta = {"name": labels.WEBHOOK_SERVICE, "namespace": namespace, "labels": selector(CONTROLLER)}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": selector(CONTROLLER), "ports": [port]},
    }
    configuration = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": labels.WEBHOOK_CONFIGURATION, "labels": selector(CONTROLLER)},
        "webhooks": [_deletion(namespace), _eviction(namespace)],
    }
    return [service, configuration]


def _deletion(namespace: str) -> dict[str, Any]:
    ours = {"matchLabels": {labels.CREATED_BY: labels.CREATED_BY_SANDBOX}}
    return {**_webhook("delete", namespace, "DELETE", "pods"), "objectSelector": ours}


def _eviction(namespace: str) -> dict[str, Any]:
    own = ["kube-system", "kube-public", "kube-node-lease", namespace]
    others = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": own}
    webhook = _webhook("evict", namespace, "CREATE", "pods/eviction")
    return {**webhook, "namespaceSelector": {"matchExpressions": [others]}}


def _webhook(name: str, namespace: str, operation: str, resource: str) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": [operation], "resources": [resource]}
    service = {"name": labels.WEBHOOK_SERVICE, "namespace": namespace, "path": PATH, "port": 443}
    return {
        "name": f"{name}.pods.{labels.GROUP}",
        "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": service},
        "rules": [{**rule, "scope": "Namespaced"}],
        "failurePolicy": "Ignore",
        "matchPolicy": "Equivalent",
        "sideEffects": "None",
        "timeoutSeconds": 3,
    }
