"""What runs: two Deployments of one image, the Service in front of the managers, and their disruption budgets.

Pods run as the image's own user with a read-only root, no capabilities and no privilege escalation; they write to one
small in-memory directory. The controller is leader-elected, the manager stateless; both survive losing any pod.
"""

from __future__ import annotations

from typing import Any

from appliance.api.labels import IMAGE_PROGRAM
from appliance.install.options import InstallOptions
from appliance.install.rbac import CONTROLLER, MANAGER

PORT = 8080
_KEY, _TLS = "/etc/appliance/key", "/etc/appliance/tls"


def objects(namespace: str, options: InstallOptions) -> list[dict[str, Any]]:
    """Deployments, Service and budgets."""
    made = [_deployment(namespace, CONTROLLER, options.controllers, options.image, _controller(options), [])]
    made.append(_deployment(namespace, MANAGER, options.managers, options.image, _manager(options), _secrets(options)))
    made.append(_service(namespace, tls=options.tls_secret is not None))
    for name, replicas in ((CONTROLLER, options.controllers), (MANAGER, options.managers)):
        if replicas > 1:  # of a single replica a budget would only block draining its node
            made.append(_budget(namespace, name))
    return made


def selector(name: str) -> dict[str, str]:
    """The labels by which everything finds a role's pods."""
    return {"app.kubernetes.io/name": "appliance", "app.kubernetes.io/component": name}


def _controller(options: InstallOptions) -> dict[str, Any]:
    environment = [{"name": "APPLIANCE_RUNTIME_IMAGE", "value": options.image}]
    container = {"command": [IMAGE_PROGRAM, "--role=controller"], "env": environment}
    return {**container, "resources": _resources("100m", "128Mi", "1Gi")}


def _manager(options: InstallOptions) -> dict[str, Any]:
    command = [IMAGE_PROGRAM, "--role=manager", f"--listen=0.0.0.0:{PORT}", f"--api-key-file={_KEY}/api-key"]
    mounts = [{"name": "api-key", "mountPath": _KEY, "readOnly": True}]
    scheme = "HTTP"
    if options.domain:
        command.append(f"--domain={options.domain}")
    if options.tls_secret:
        command += [f"--tls-cert={_TLS}/tls.crt", f"--tls-key={_TLS}/tls.key"]
        mounts.append({"name": "tls", "mountPath": _TLS, "readOnly": True})
        scheme = "HTTPS"
    probe = {"httpGet": {"path": "/health", "port": "api", "scheme": scheme}, "periodSeconds": 5, "timeoutSeconds": 3}
    return {
        "command": command,
        "ports": [{"name": "api", "containerPort": PORT}],
        "readinessProbe": probe,
        "livenessProbe": {**probe, "periodSeconds": 15, "failureThreshold": 4},
        "startupProbe": {**probe, "periodSeconds": 1, "failureThreshold": 60},
        "volumeMounts": mounts,
        "resources": _resources("250m", "192Mi", "2Gi"),
    }


def _secrets(options: InstallOptions) -> list[dict[str, Any]]:
    volumes = [{"name": "api-key", "secret": {"secretName": options.api_key_secret, "defaultMode": 0o440}}]
    if options.tls_secret:
        volumes.append({"name": "tls", "secret": {"secretName": options.tls_secret, "defaultMode": 0o440}})
    return volumes


def _resources(cpu: str, memory: str, limit: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": limit}}


def _deployment(
    namespace: str, name: str, replicas: int, image: str, container: dict[str, Any], volumes: list[dict[str, Any]]
) -> dict[str, Any]:
    mounts = [*container.pop("volumeMounts", []), {"name": "tmp", "mountPath": "/tmp"}]
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    pod = {
        "serviceAccountName": name,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "terminationGracePeriodSeconds": 30,
        "topologySpreadConstraints": [{**spread, "labelSelector": {"matchLabels": selector(name)}}],
        "containers": [
            {"name": name, "image": image, **container, "volumeMounts": mounts, "securityContext": security},
        ],
        "volumes": [*volumes, {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}],
    }  # fmt: skip
    spec = {
        "replicas": replicas,
        "selector": {"matchLabels": selector(name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": selector(name)}, "spec": pod},
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _meta(namespace, name), "spec": spec}


def _service(namespace: str, *, tls: bool) -> dict[str, Any]:
    port = {"name": "https" if tls else "http", "port": 443 if tls else 80, "targetPort": "api"}
    spec = {"selector": selector(MANAGER), "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(namespace, MANAGER), "spec": spec}


def _budget(namespace: str, name: str) -> dict[str, Any]:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(name)}}
    return {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": _meta(namespace, name), "spec": spec}


def _meta(namespace: str, name: str) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "labels": selector(name)}
