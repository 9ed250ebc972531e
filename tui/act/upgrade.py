"""Another image for a running sandbox, in place: the pod, its address and its volumes stay, its container is replaced.

A sandbox of a pool refers to a SandboxTemplate; to differ from it, it gets a template of its own in the same guarded
write. What becomes of it is the Sandbox's condition ``InplaceUpdate``.
"""

from __future__ import annotations

import copy
from typing import Any

from appliance.api import kinds, labels
from appliance.api.imagenames import is_reference
from appliance.kube.cluster import Cluster
from tui.act.refused import Refused
from tui.model.sandboxes import SandboxRow

MAIN_CONTAINER = "sandbox"
"""Whose image it is, if there is a container of that name; else the first one's."""
KEPT = ("volumeClaimTemplates", "pauseStrategy", "persistentContents", "runtimes")
"""Fields of the SandboxTemplate that a sandbox takes along when it no longer refers to it."""


def image_name(argument: str) -> str:
    """The argument as the name of an image. Raises Refused."""
    words = argument.strip()
    if not is_reference(words):
        raise Refused(f"expected the name of an image such as python:3.13-slim, got {words!r}")
    return words


async def upgrade(cluster: Cluster, row: SandboxRow, argument: str, now: float) -> str:
    """Give a claimed sandbox another image. Raises Refused, KubeError."""
    wanted = image_name(argument)
    if row.member:
        raise Refused(f"{row.key[1]} is in the pool: change the pool's image instead")
    if row.source.spec.paused:
        raise Refused(f"{row.key[1]} is paused: resume it first")
    whole = await cluster.get(kinds.SANDBOX, *row.key, type=dict)
    spec = await _spec(cluster, row, whole["spec"])
    before = _put(spec["template"], wanted)
    if before == wanted:
        raise Refused(f"{row.key[1]} has that image already")
    version = whole["metadata"]["resourceVersion"]
    await cluster.patch(kinds.SANDBOX, *row.key, {"spec": spec}, resource_version=version)
    return f"{row.key[1]}: from {before} to {wanted}; condition InplaceUpdate tells how it goes"


async def _spec(cluster: Cluster, row: SandboxRow, spec: dict[str, Any]) -> dict[str, Any]:
    """What of the spec changes, with the template it has now."""
    if spec.get("template"):
        return {"template": copy.deepcopy(spec["template"])}
    name = (spec.get("templateRef") or {}).get("name", "")
    found = (await cluster.get(kinds.SANDBOXTEMPLATE, row.key[0], name, type=dict))["spec"]
    kept = {field: found[field] for field in KEPT if found.get(field)}
    return {"template": copy.deepcopy(found.get("template") or {}), "templateRef": None, **kept}


def _put(template: dict[str, Any], image: str) -> str:
    """Set the image; returns the one before."""
    containers = template.get("spec", {}).get("containers") or []
    if not containers:
        raise Refused("its template has no container")
    container = next((one for one in containers if one.get("name") == MAIN_CONTAINER), containers[0])
    before, container["image"] = str(container.get("image", "")), image
    notes = template.setdefault("metadata", {}).setdefault("annotations", {})
    notes[labels.CHOSEN_IMAGE] = str(container.get("name"))
    return before
