"""Header rules in the cluster: one Secret per revision, owned by its Sandbox, whose policy names the revision."""

from __future__ import annotations

from collections.abc import Mapping

from appliance.api import kinds
from appliance.api.egress import egress_of
from appliance.api.header_rules import HeaderRules, from_data, secret_name, to_data
from appliance.api.structs import Sandbox
from appliance.claims.errors import InitFailed
from appliance.kube import errors
from appliance.kube.cluster import Cluster


def revision_of(own_labels: Mapping[str, str], annotations: Mapping[str, str]) -> str:
    """The revision that a Sandbox with these labels and annotations has; empty: no rules."""
    return egress_of(own_labels, annotations).rules


def revision(sandbox: Sandbox) -> str:
    """The revision that the Sandbox's policy names; empty: no rules."""
    return revision_of(sandbox.meta.labels, sandbox.meta.annotations)


async def keep_rules(cluster: Cluster, sandbox: Sandbox, own: str, rules: HeaderRules) -> HeaderRules:
    """Store a revision; returns what is stored under its name, which differs when this was done before.

    Raises KubeError, InitFailed.
    """
    meta = {
        "name": secret_name(sandbox.name, own),
        "namespace": sandbox.namespace,
        "ownerReferences": [sandbox.as_owner],
    }
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "Opaque", "data": to_data(rules)}
    try:
        await cluster.create(kinds.SECRET, sandbox.namespace, body)
    except errors.AlreadyExists:
        return await _read(cluster, sandbox, own)
    return rules


async def stored_rules(cluster: Cluster, sandbox: Sandbox) -> HeaderRules | None:
    """The rules of the Sandbox's present revision; None: it has none, or they are gone.

    Raises KubeError, and InitFailed when the Secret is not what ``keep_rules`` writes.
    """
    own = revision(sandbox)
    if not own:
        return None
    try:
        return await _read(cluster, sandbox, own)
    except errors.NotFound:
        return None


async def _read(cluster: Cluster, sandbox: Sandbox, own: str) -> HeaderRules:
    name = secret_name(sandbox.name, own)
    secret = await cluster.get(kinds.SECRET, sandbox.namespace, name)
    try:
        return from_data(secret.data)
    except ValueError as error:
        raise InitFailed(f"Secret {name}: {error}") from None


async def drop_rules(cluster: Cluster, sandbox: Sandbox, own: str) -> None:
    """Delete a revision that nothing names any more; one that is gone is fine. Raises KubeError."""
    try:
        await cluster.delete(kinds.SECRET, sandbox.namespace, secret_name(sandbox.name, own))
    except errors.NotFound:
        return
