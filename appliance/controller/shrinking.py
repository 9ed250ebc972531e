"""The cpu request of a frozen pod: a reservation that nobody uses, given back by in-place resize. Pure.

The originals are kept in a pod annotation, which is written first, so that a crash at any point loses nothing. Only
requests change; a pod of class Guaranteed must keep them equal to its limits and is left as it is, and so are pods that
the cluster refuses to resize. On nodes with a freezer of our own (one box) requests are no reservations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from appliance.api import labels
from appliance.api.corestructs import Pod
from appliance.api.quantities import quantity

FROZEN = "1m"
"""What a container asks for meanwhile; a request of nothing would be completed to the limit."""
NOTHING = "{}"
"""The annotation's value once it is settled that there is nothing to give back."""


def reserved(pod: Pod) -> dict[str, str]:
    """Container → cpu request that freezing makes superfluous."""
    if pod.status.qos_class == "Guaranteed":
        return {}
    found = {str(item["name"]): _request(item) for item in pod.spec.containers}
    return {name: value for name, value in found.items() if value and quantity(value) > quantity(FROZEN)}


def originals(pod: Pod) -> dict[str, str]:
    """What the annotation remembers; empty when there is none."""
    try:
        found = json.loads(pod.meta.annotations.get(labels.CPU_REQUESTS, NOTHING))
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in found.items()} if isinstance(found, dict) else {}


def due(pod: Pod) -> bool:
    """Whether a frozen pod still holds a reservation that it can do without."""
    if labels.CPU_REQUESTS not in pod.meta.annotations:
        return bool(reserved(pod))
    kept = originals(pod)
    return any(_request(item) == kept.get(item["name"]) != FROZEN for item in pod.spec.containers)


def note(requests: Mapping[str, str]) -> dict[str, Any]:
    """Annotations that remember them."""
    return {labels.CPU_REQUESTS: json.dumps(dict(requests), sort_keys=True)}


def resize_patch(pod: Pod, requests: Mapping[str, str]) -> dict[str, Any]:
    """Merge patch of the ``resize`` subresource: these cpu requests, everything else as it is."""
    containers = [_with(item, requests.get(item["name"])) for item in pod.spec.containers]
    return {"metadata": {"uid": pod.uid}, "spec": {"containers": containers}}


def _with(container: Mapping[str, Any], request: str | None) -> dict[str, Any]:
    if request is None:
        return dict(container)
    resources = container.get("resources") or {}
    return {**container, "resources": {**resources, "requests": {**(resources.get("requests") or {}), "cpu": request}}}


def _request(container: Mapping[str, Any]) -> str:
    return str(((container.get("resources") or {}).get("requests") or {}).get("cpu") or "")
