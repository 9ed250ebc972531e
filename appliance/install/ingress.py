"""The optional Ingress: the domain and everything below it, to the managers.

The API is ``api.DOMAIN``, a port of a sandbox ``PORT-ID.DOMAIN``; the gateway behind the Service tells them apart.
"""

from __future__ import annotations

from typing import Any

from appliance.install.nodes import Value, filled, text
from appliance.install.rbac import MANAGER, selector

_HOST = Value("domain", form="host")


def objects(namespace: str) -> list[Any]:
    """The Ingress, where it is wanted."""
    hosts = [_HOST, text("*.", _HOST)]
    port = {"name": filled("tls.secretName", "https", "http")}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": MANAGER, "port": port}}}
    tls = [{"hosts": hosts, "secretName": Value("ingress.tlsSecretName")}]
    spec = {
        "ingressClassName": filled("ingress.className", Value("ingress.className")),
        "tls": filled("ingress.tlsSecretName", tls),
        "rules": [{"host": host, "http": {"paths": [path]}} for host in hosts],
    }
    meta = {
        "name": MANAGER,
        "namespace": namespace,
        "labels": selector(MANAGER),
        "annotations": filled("ingress.annotations", Value("ingress.annotations", structured=True)),
    }
    made = {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec}
    return [filled("ingress.enabled", made)]
