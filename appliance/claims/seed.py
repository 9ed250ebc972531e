"""The cluster's seed: 32 random bytes in a Secret, from which every runtime access token is derived.

Whoever comes first makes it; a creation is the only write, so two that start together agree on the winner's.
"""

from __future__ import annotations

import base64
import binascii
import secrets

from appliance.api import kinds, labels
from appliance.kube import errors
from appliance.kube.cluster import Cluster


async def load_seed(cluster: Cluster) -> bytes:
    """Read the seed, making it (and its namespace) if there is none.

    Raises KubeError, and ValueError when the Secret exists but holds no usable seed.
    """
    try:
        secret = await cluster.get(kinds.SECRET, labels.SYSTEM_NAMESPACE, labels.SEED_SECRET)
    except errors.NotFound:
        await _create(cluster)
        secret = await cluster.get(kinds.SECRET, labels.SYSTEM_NAMESPACE, labels.SEED_SECRET)
    try:
        seed = base64.b64decode(secret.data.get("seed", ""), validate=True)
    except binascii.Error as error:
        raise ValueError(f"Secret {labels.SEED_SECRET}, data.seed: expected base64") from error
    if len(seed) < 16:
        raise ValueError(f"Secret {labels.SEED_SECRET}, data.seed: expected at least 16 bytes, got {len(seed)}")
    return seed


async def _create(cluster: Cluster) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": labels.SEED_SECRET, "namespace": labels.SYSTEM_NAMESPACE},
        "type": "Opaque",
        "data": {"seed": base64.b64encode(secrets.token_bytes(32)).decode()},
    }
    try:
        await cluster.create(kinds.SECRET, labels.SYSTEM_NAMESPACE, body)
    except errors.AlreadyExists:
        return
    except errors.NotFound:
        await _create_namespace(cluster)
        await cluster.create(kinds.SECRET, labels.SYSTEM_NAMESPACE, body)


async def _create_namespace(cluster: Cluster) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": labels.SYSTEM_NAMESPACE}}
    try:
        await cluster.create(kinds.NAMESPACE, None, body)
    except errors.AlreadyExists:
        return
