"""The Sandbox object that a SandboxSet stands for: as a pool member, and as one made on demand for a claim.

Objects stay small: a sandbox names the SandboxTemplate revision it was made from and embeds nothing of it. Names are
chosen here and not by the server, so that a creation whose answer got lost can be looked up, or simply repeated.
"""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from appliance.api import labels
from appliance.api.structs import SandboxSet

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""Kubernetes' own choice for generated names: no vowels, no look-alikes."""
_SUFFIX_LENGTH = 6
_MAX_PREFIX = 57 - _SUFFIX_LENGTH
"""A pod's name becomes a host name and a label value: 63 characters, with room for a PVC-free margin."""


def new_name(prefix: str) -> str:
    """``prefix-xxxxxx``, at most 58 characters; 387 million endings per prefix."""
    ending = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(_SUFFIX_LENGTH))
    return f"{prefix[:_MAX_PREFIX].rstrip('-.')}-{ending}"


def inherited(keys: dict[str, Any]) -> dict[str, str]:
    """Labels or annotations of a pod template that its Sandbox carries too: all but the system's own."""
    return {key: str(value) for key, value in keys.items() if not system_key(key)}


def system_key(key: str) -> bool:
    """Whether a label or annotation key belongs to this system (its group, or a subdomain of it)."""
    domain = key.partition("/")[0]
    return domain == labels.GROUP or domain.endswith("." + labels.GROUP)


def member(owner: SandboxSet, *, name: str, revision: str, template: str, metadata: dict[str, Any]) -> dict[str, Any]:
    """Body of a pool member of ``owner``, not yet created.

    ``revision`` is the set's updateRevision, ``template`` the SandboxTemplate holding it, ``metadata`` that of the
    pod template (its labels and annotations are inherited).
    """
    body = _sandbox(owner, name, revision, template, metadata)
    body["metadata"]["labels"][labels.CLAIMED] = "false"
    body["metadata"]["ownerReferences"] = [
        {
            "apiVersion": labels.API_VERSION,
            "kind": "SandboxSet",
            "name": owner.name,
            "uid": owner.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]
    return body


def on_demand(owner: SandboxSet, name: str, claim: dict[str, Any]) -> dict[str, Any]:
    """Body of a sandbox made for a claim: like a pool member, but already delivered.

    ``claim`` is the merge patch a claim would have applied to a member (``delivery.claim_patch``).
    """
    status = owner.status
    template = owner.spec.template or {}
    body = _sandbox(owner, name, status.update_revision, status.current_revision, template.get("metadata") or {})
    for part in ("labels", "annotations"):
        body["metadata"].setdefault(part, {}).update(claim["metadata"][part])
    body["metadata"]["annotations"][labels.PRIORITY] = "100"
    body["spec"].update(claim["spec"])
    body["spec"] = {key: value for key, value in body["spec"].items() if value is not None}
    return body


def _sandbox(owner: SandboxSet, name: str, revision: str, template: str, metadata: dict[str, Any]) -> dict[str, Any]:
    own_labels = {labels.POOL: owner.name, labels.TEMPLATE: owner.name, labels.TEMPLATE_HASH: revision}
    meta: dict[str, Any] = {
        "name": name,
        "namespace": owner.namespace,
        "labels": {**inherited(metadata.get("labels") or {}), **own_labels},
        "annotations": inherited(metadata.get("annotations") or {}),
    }
    spec: dict[str, Any] = {"templateRef": {"name": template}}
    if owner.spec.pause_strategy is not None:
        spec["pauseStrategy"] = msgspec.to_builtins(owner.spec.pause_strategy)
    if owner.spec.persistent_contents:
        spec["persistentContents"] = list(owner.spec.persistent_contents)
    if owner.spec.runtimes:
        spec["runtimes"] = [{"name": runtime.name} for runtime in owner.spec.runtimes]
    return {"apiVersion": labels.API_VERSION, "kind": "Sandbox", "metadata": meta, "spec": spec}
