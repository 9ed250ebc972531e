"""``appliance install --apply``: the manifests onto a cluster, in order, by server-side apply.

Definitions are waited for before anything needs them. A first API key is made where there is none: its Secret is
created once and never written again. Fields that somebody else manages are not taken without ``--force-conflicts``.
What is already as rendered stays untouched, so applying again, or a newer version, restarts only what changed.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from appliance.api import ids, kinds, labels
from appliance.config import KubeSettings
from appliance.install.command import manifests
from appliance.install.comparing import compared
from appliance.install.resources import DEPLOYMENT, label, place_of
from appliance.kube.cluster import Cluster
from appliance.kube.errors import AlreadyExists, ApiError, Conflict, Forbidden, NotFound

MANAGER = "appliance-install"
"""Field manager of everything that is applied."""
ESTABLISHED = 60.0
"""Seconds for the API server to serve a new definition."""


@dataclass(frozen=True, kw_only=True)
class How:
    """How to apply."""

    force: bool = False
    """Take over fields that others manage."""
    wait: float = 0.0
    """Seconds to wait until the deployments are available; 0: do not."""


async def apply(settings: KubeSettings, values: Mapping[str, Any], how: How, say: Callable[[str], None]) -> None:
    """Apply everything, telling ``say`` one line per object.

    Raises:
        RuntimeError: names the object and what to do: a permission is missing, a field is managed by somebody else,
            a definition is not served, a deployment is not available in time.
        KubeError: the cluster does not answer.
    """
    async with await Cluster.connect(settings) as cluster:
        documents = manifests(values)
        for document in documents:
            say(f"{label(document)} {await _apply(cluster, document, how)}")
            if document["kind"] == "Namespace" and not values["apiKey"]:
                await _first_key(cluster, values["apiKeySecret"], say)
        if how.wait:
            for document in documents:
                if document["kind"] == "Deployment":
                    say(f"{label(document)} {await _available(cluster, document, how.wait)}")


async def _apply(cluster: Cluster, document: dict[str, Any], how: How) -> str:
    kind, namespace, name = place_of(document)
    try:
        before = await _live(cluster, document)
        after = await cluster.apply(
            kind, namespace, name, document, manager=MANAGER, force=how.force, type=dict[str, Any]
        )
        if kind is kinds.CRD:
            await _established(cluster, name)
    except ApiError as error:
        raise RuntimeError(f"{label(document)}: {explained(error)}") from error
    if before is None:
        return "created"
    return "configured" if compared(before, after, name) else "unchanged"


def explained(error: ApiError) -> str:
    """The refusal, and what mends it."""
    if isinstance(error, Forbidden):
        return f"{error.message}. Apply as a cluster administrator; `appliance doctor` lists what this account lacks"
    if isinstance(error, Conflict):
        return (
            f"{error.message}. Somebody else manages these fields (Helm or kubectl, perhaps); --force-conflicts takes "
            "them over"
        )
    if isinstance(error, NotFound):
        return f"{error}. The box of --role=all needs no installation; a cluster serves Deployments and the like"
    return str(error)


async def _live(cluster: Cluster, document: dict[str, Any]) -> dict[str, Any] | None:
    kind, namespace, name = place_of(document)
    try:
        return await cluster.get(kind, namespace, name, type=dict[str, Any])
    except NotFound:
        return None


async def _first_key(cluster: Cluster, name: str, say: Callable[[str], None]) -> None:
    try:
        await cluster.get(kinds.SECRET, labels.SYSTEM_NAMESPACE, name)
        return
    except NotFound:
        pass
    except Forbidden as error:
        raise RuntimeError(f"secret/{name} in {labels.SYSTEM_NAMESPACE}: {explained(error)}") from error
    key = ids.new_api_key()
    body = {
        "metadata": {"name": name, "namespace": labels.SYSTEM_NAMESPACE},
        "type": "Opaque",
        "data": {"api-key": base64.b64encode(key.encode()).decode()},
    }
    try:
        await cluster.create(kinds.SECRET, labels.SYSTEM_NAMESPACE, body)
    except AlreadyExists:
        return
    except Forbidden as error:
        raise RuntimeError(f"secret/{name} in {labels.SYSTEM_NAMESPACE}: {explained(error)}") from error
    say(f"secret/{name} in {labels.SYSTEM_NAMESPACE} created; the first API key is {key}")


async def _established(cluster: Cluster, name: str) -> None:
    end = time.monotonic() + ESTABLISHED
    while True:
        found = await cluster.get(kinds.CRD, None, name, type=dict[str, Any])
        states = {one["type"]: one for one in (found.get("status") or {}).get("conditions") or []}
        if states.get("Established", {}).get("status") == "True":
            return
        if time.monotonic() > end:
            said = states.get("NamesAccepted", {}).get("message", "no reason given")
            raise RuntimeError(f"customresourcedefinition/{name}: not served after {ESTABLISHED:g} s: {said}")
        await asyncio.sleep(0.1)


async def _available(cluster: Cluster, document: dict[str, Any], patience: float) -> str:
    _, namespace, name = place_of(document)
    end = time.monotonic() + patience
    while True:
        found = await cluster.get(DEPLOYMENT, namespace, name, type=dict[str, Any])
        status, wanted = found.get("status", {}), found["spec"]["replicas"]
        current = status.get("observedGeneration", 0) >= found["metadata"]["generation"]
        if current and status.get("availableReplicas", 0) >= wanted and status.get("updatedReplicas", 0) >= wanted:
            return f"available ({wanted} of {wanted})"
        if time.monotonic() > end:
            have = status.get("availableReplicas", 0)
            raise RuntimeError(
                f"{label(document)}: {have} of {wanted} pods available after {patience:g} s; "
                f"kubectl -n {namespace} describe pods -l app.kubernetes.io/component={name} says why"
            )
        await asyncio.sleep(0.5)
