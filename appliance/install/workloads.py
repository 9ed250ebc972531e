"""What runs: two Deployments of one image, the Service in front of the managers, and their disruption budgets.

Pods run as the image's own user with a read-only root, no capabilities and no privilege escalation; they write to one
small in-memory directory. The controller is leader-elected, the manager stateless; both survive losing any pod.
"""

from __future__ import annotations

from typing import Any

from appliance import __version__
from appliance.api.labels import IMAGE_PROGRAM
from appliance.install import admission
from appliance.install.nodes import Condition, Each, Item, Value, When, filled, text
from appliance.install.rbac import CONTROLLER, KEEP, MANAGER, selector

PORT = 8080
_LEAVE = 5
"""Seconds that an ending manager goes on serving: a pod that ends is still sent connections until every node has heard
of it, and clients keep theirs."""
_KEY, _TLS = "/etc/appliance/key", "/etc/appliance/tls"
_TLS_ON = "tls.secretName"


def objects(namespace: str) -> list[Any]:
    """The Secret of the first API key, Deployments, Service and budgets."""
    made: list[Any] = [filled("apiKey", _key(namespace))]
    made.append(_deployment(namespace, CONTROLLER, "controllers", _controller(), [], []))
    made.append(_deployment(namespace, MANAGER, "managers", _manager(), _mounts(), _volumes()))
    made.append(_service(namespace))
    for name, values in ((CONTROLLER, "controllers"), (MANAGER, "managers")):
        # Of a single replica a budget would only block draining its node.
        made.append(When(Condition(f"{values}.replicas", above=1), _budget(namespace, name)))
    return made


def _key(namespace: str) -> dict[str, Any]:
    meta = {
        "name": Value("apiKeySecret"),
        "namespace": namespace,
        "labels": selector(MANAGER),
        "annotations": KEEP,  # an upgrade that is not told the key again keeps it
    }
    data = {"api-key": Value("apiKey", form="base64")}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data}


def _controller() -> dict[str, Any]:
    environment = [{"name": "APPLIANCE_RUNTIME_IMAGE", "value": Value("runtimeImage", fallback="image")}]
    get = {"path": "/readyz", "port": "webhook", "scheme": "HTTPS"}
    return {
        "command": [IMAGE_PROGRAM, "--role=controller", f"--webhook-listen=0.0.0.0:{admission.PORT}"],
        "env": environment,
        "ports": [{"name": "webhook", "containerPort": admission.PORT}],
        "readinessProbe": {"httpGet": get, "periodSeconds": 5, "timeoutSeconds": 3},
    }


def _manager() -> dict[str, Any]:
    command: list[Any] = [
        IMAGE_PROGRAM,
        "--role=manager",
        f"--listen=0.0.0.0:{PORT}",
        f"--api-key-file={_KEY}/api-key",
        f"--leave={_LEAVE}",
        filled("domain", text("--domain=", Value("domain"))),
        filled(_TLS_ON, f"--tls-cert={_TLS}/tls.crt"),
        filled(_TLS_ON, f"--tls-key={_TLS}/tls.key"),
    ]
    get = {"path": "/health", "port": "api", "scheme": filled(_TLS_ON, "HTTPS", "HTTP")}
    probe = {"httpGet": get, "periodSeconds": 5, "timeoutSeconds": 3}
    return {
        "command": command,
        "ports": [{"name": "api", "containerPort": PORT}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "periodSeconds": 15, "failureThreshold": 4},
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 300},
    }


def _mounts() -> list[Any]:
    tls = {"name": "tls", "mountPath": _TLS, "readOnly": True}
    return [{"name": "api-key", "mountPath": _KEY, "readOnly": True}, filled(_TLS_ON, tls)]


def _volumes() -> list[Any]:
    tls = {"name": "tls", "secret": {"secretName": Value(_TLS_ON), "defaultMode": 0o440}}
    key = {"name": "api-key", "secret": {"secretName": Value("apiKeySecret"), "defaultMode": 0o440}}
    return [key, filled(_TLS_ON, tls)]


def _deployment(
    namespace: str, name: str, values: str, container: dict[str, Any], mounts: list[Any], volumes: list[Any]
) -> dict[str, Any]:
    spec = {
        "replicas": Value(f"{values}.replicas"),
        "selector": {"matchLabels": selector(name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {
            "metadata": {"labels": selector(name)},
            "spec": _pod(name, values, container, mounts, volumes),
        },
    }
    meta = _meta(namespace, name)
    meta["labels"] = {**meta["labels"], "app.kubernetes.io/version": __version__}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def _pod(name: str, values: str, container: dict[str, Any], mounts: list[Any], volumes: list[Any]) -> dict[str, Any]:
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    whole = {
        "name": name,
        "image": Value("image"),
        "imagePullPolicy": Value("imagePullPolicy"),
        **container,
        "resources": Value(f"{values}.resources", structured=True),
        "volumeMounts": [*mounts, {"name": "tmp", "mountPath": "/tmp"}],
        "securityContext": security,
    }
    return {
        "serviceAccountName": name,
        "imagePullSecrets": filled("imagePullSecrets", [Each("imagePullSecrets", {"name": Item()})]),
        "nodeSelector": filled("nodeSelector", Value("nodeSelector", structured=True)),
        "tolerations": filled("tolerations", Value("tolerations", structured=True)),
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 30,
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": selector(name)}}],
        "containers": [whole],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
    }  # fmt: skip


def _service(namespace: str) -> dict[str, Any]:
    port = {"name": filled(_TLS_ON, "https", "http"), "port": filled(_TLS_ON, 443, 80), "targetPort": "api"}
    spec = {"type": Value("service.type"), "selector": selector(MANAGER), "ports": [{"protocol": "TCP", **port}]}
    meta = {
        **_meta(namespace, MANAGER),
        "annotations": filled("service.annotations", Value("service.annotations", structured=True)),
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec}


def _budget(namespace: str, name: str) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(name)}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _meta(namespace, name), "spec": spec}


def _meta(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": selector(name)}
