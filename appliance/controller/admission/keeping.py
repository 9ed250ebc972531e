"""Where the webhook's certificate lives: one Secret that all replicas share, and the configuration that trusts it.

Any replica may renew; writes are guarded by the version read, so that of two only one counts and the other reads again.
"""

from __future__ import annotations

import base64
import logging
from datetime import datetime, timedelta
from typing import Any

from appliance.api import kinds, labels
from appliance.api.corestructs import Secret
from appliance.controller.admission.certificates import LEAF_RENEW, Material, renewed
from appliance.kube import errors
from appliance.kube.cluster import Cluster

log = logging.getLogger(__name__)

SECRET = "appliance-webhook-tls"
_MANAGER = "appliance-webhook"
_TURNS = 5
"""Attempts when other replicas renew at the same moment."""
_FIELDS = {"bundle": "ca.crt", "authority_key": "ca.key", "certificate": "tls.crt", "key": "tls.key"}


def names() -> list[str]:
    """The names by which the API server calls the webhook."""
    service = f"{labels.WEBHOOK_SERVICE}.{labels.SYSTEM_NAMESPACE}.svc"
    return [service, f"{service}.cluster.local"]


async def current(cluster: Cluster, now: datetime, renew: timedelta = LEAF_RENEW) -> Material:
    """The material in force, renewed and written when it is due (see ``certificates.renewed``). Raises KubeError."""
    for _ in range(_TURNS):
        try:
            secret = await cluster.get(kinds.SECRET, labels.SYSTEM_NAMESPACE, SECRET)
        except errors.NotFound:
            secret = None
        held = _read(secret) if secret is not None else None
        fresh = renewed(held, names(), now, renew)
        if fresh is None and held is not None:
            return held
        assert fresh is not None
        try:
            await _write(cluster, secret, fresh)
        except (errors.Conflict, errors.AlreadyExists):
            continue
        log.info("the webhook has a new certificate")
        return fresh
    raise errors.Conflict(409, "Conflict", f"Secret {SECRET}: other replicas renew it at the same time")


async def trust(cluster: Cluster, bundle: str) -> None:
    """Make the API server trust the bundle, where the configuration is installed.

    Raises KubeError; Conflict among them when another replica has renewed since the bundle was read.
    """
    try:
        found = await cluster.get(kinds.VALIDATINGWEBHOOK, None, labels.WEBHOOK_CONFIGURATION, type=dict[str, Any])
    except errors.NotFound:
        log.info("no ValidatingWebhookConfiguration %s: pods are not protected", labels.WEBHOOK_CONFIGURATION)
        return
    wanted = base64.b64encode(bundle.encode()).decode()
    webhooks = found.get("webhooks") or []
    if all((one.get("clientConfig") or {}).get("caBundle") == wanted for one in webhooks):
        return
    held = _read(await cluster.get(kinds.SECRET, labels.SYSTEM_NAMESPACE, SECRET))
    if held is not None and held.bundle != bundle:  # the configuration may be that replica's, and newer than ours
        raise errors.Conflict(409, "Conflict", f"Secret {SECRET}: another replica has renewed it meanwhile")
    # Applied, so that this program owns nothing of the configuration but this field.
    trusted = [{"name": one["name"], "clientConfig": {"caBundle": wanted}} for one in webhooks]
    name = labels.WEBHOOK_CONFIGURATION
    meta = {"name": name, "resourceVersion": found["metadata"]["resourceVersion"]}
    body = {"metadata": meta, "webhooks": trusted}
    await cluster.apply(kinds.VALIDATINGWEBHOOK, None, name, body, manager=_MANAGER, force=True)


async def _write(cluster: Cluster, secret: Secret | None, fresh: Material) -> None:
    data = {key: base64.b64encode(getattr(fresh, name).encode()).decode() for name, key in _FIELDS.items()}
    if secret is None:
        meta = {"name": SECRET, "namespace": labels.SYSTEM_NAMESPACE}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": data}
        await cluster.create(kinds.SECRET, labels.SYSTEM_NAMESPACE, body)
        return
    version = secret.meta.resource_version
    patch = {"data": data}
    await cluster.patch(kinds.SECRET, labels.SYSTEM_NAMESPACE, SECRET, patch, resource_version=version)


def _read(secret: Secret) -> Material | None:
    try:
        return Material(**{name: base64.b64decode(secret.data[key]).decode() for name, key in _FIELDS.items()})
    except (KeyError, ValueError):
        return None
