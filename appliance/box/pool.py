"""The small pool a first start applies, so that the printed program works at once.

It is an ordinary SandboxSet named ``code-interpreter``: edit, scale or delete it like any other. A start never changes
one that exists already, so what the user made of it stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from appliance.api import labels
from appliance.api.kinds import SANDBOXSET
from appliance.kube.cluster import Cluster
from appliance.kube.errors import AlreadyExists, NotFound

NAME = "code-interpreter"
NAMESPACE = "default"


def manifest(replicas: int) -> dict[str, Any]:
    """The SandboxSet of the default pool with ``replicas`` warm sandboxes."""
    workspace = {"name": labels.WORKSPACE_ENV, "value": "/mnt/agent-runtime"}
    mount = {"name": "agent-runtime-volume", "mountPath": "/mnt/agent-runtime"}
    sidecar = {
        "name": "init",
        "image": "appliance/agent-runtime:host",
        "restartPolicy": "Always",
        "env": [workspace],
        "volumeMounts": [mount],
    }
    probe = {
        "httpGet": {"path": "/health", "port": labels.PORT_INTERPRETER},
        "periodSeconds": 1,
        "failureThreshold": 60,
    }
    sandbox = {
        "name": "sandbox",
        "image": "appliance/code-interpreter:host",
        "env": [workspace],
        "volumeMounts": [mount],
        "resources": {
            "requests": {"cpu": "1", "memory": "1Gi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "startupProbe": probe,
    }
    return {
        "apiVersion": labels.API_VERSION,
        "kind": "SandboxSet",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "annotations": {labels.SHOULD_INIT_ENVD: "true"}},
        "spec": {
            "replicas": replicas,
            "template": {
                "spec": {
                    "initContainers": [sidecar],
                    "containers": [sandbox],
                    "volumes": [{"name": "agent-runtime-volume", "emptyDir": {}}],
                }
            },
        },
    }


async def ensure(cluster: Cluster, replicas: int) -> bool:
    """Create the default pool unless a SandboxSet of its name exists; True when this call made it."""
    try:
        await cluster.create(SANDBOXSET, NAMESPACE, manifest(replicas))
    except AlreadyExists:
        return False
    return True


async def warm(cluster: Cluster, progress: Callable[[int, int], None], *, poll: float = 0.2) -> None:
    """Wait until as many sandboxes are available as the pool asks for, telling ``progress(available, wanted)``.

    Returns at once when the user has deleted the pool or scaled it to zero. Waits without limit: the caller
    decides when to give up, by cancelling.
    """
    while True:
        try:
            pool = await cluster.get(SANDBOXSET, NAMESPACE, NAME)
        except NotFound:
            return
        progress(pool.status.available_replicas, pool.spec.replicas)
        if pool.status.available_replicas >= pool.spec.replicas:
            return
        await asyncio.sleep(poll)
