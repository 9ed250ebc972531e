"""Pods: admission (bound to the box's node), the defaults the core API gives, and what may change afterwards."""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.objects import podspec
from appliance.embedded.apiserver.objects.meta import Object, now
from appliance.embedded.apiserver.status import FieldError

_MUTABLE_SPEC = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds", "schedulingGates")
IMMUTABLE_TEXT = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing "
    "tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
QOS_TEXT = "Pod QOS Class may not change as a result of resizing"
RESIZE_TEXT = "Forbidden: only cpu and memory resources are mutable"


def admit(obj: Object, node_name: str) -> None:
    """Defaults and binds a new pod: without ``nodeName`` it goes to ``node_name``."""
    spec = obj.setdefault("spec", {})
    if isinstance(spec.get("containers"), list):
        podspec.default_spec(spec)
    spec.setdefault("nodeName", node_name)
    if not spec.get("nodeName"):
        spec["nodeName"] = node_name
    condition = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now()}
    obj["status"] = {"phase": "Pending", "qosClass": podspec.qos_class(spec), "conditions": [condition]}


def amend(old: Object, new: Object, subresource: str | None) -> None:
    """Keeps what the server chose when a client's full replacement leaves it out."""
    if subresource is None:
        spec = new.get("spec")
        if isinstance(spec, dict) and isinstance(spec.get("containers"), list) and spec is not old["spec"]:
            podspec.default_spec(spec)
            spec.setdefault("nodeName", old["spec"].get("nodeName"))


def validate(new: Object, old: Object | None, subresource: str | None, errors: list[FieldError]) -> None:
    """A new pod's spec in full; of an update, that only mutable fields changed."""
    spec = new.get("spec") or {}
    if old is None:
        podspec.validate_spec(spec, "spec", errors)
    elif subresource == "resize":
        if _frozen_part(spec, "resources") != _frozen_part(old["spec"], "resources"):
            errors.append(FieldError("spec", "FieldValueForbidden", RESIZE_TEXT))
        podspec.validate_spec(spec, "spec", errors)
        if podspec.qos_class(spec) != podspec.qos_class(old["spec"]):
            errors.append(FieldError("spec", "FieldValueInvalid", f"Invalid value: {QOS_TEXT}"))
    elif subresource is None and spec is not old["spec"]:
        podspec.validate_spec(spec, "spec", errors)
        if _frozen_part(spec, "image") != _frozen_part(old["spec"], "image"):
            errors.append(FieldError("spec", "FieldValueForbidden", IMMUTABLE_TEXT))


def _frozen_part(spec: dict[str, Any], mutable: str) -> dict[str, Any]:
    """The spec without what an update may change; ``mutable`` names the changeable field of containers."""
    frozen = {key: value for key, value in spec.items() if key not in _MUTABLE_SPEC}
    for kind in ("containers", "initContainers"):
        frozen[kind] = [{k: v for k, v in item.items() if k != mutable} for item in spec.get(kind) or ()]
    return frozen


def grace_seconds(pod: Object, asked: int | None) -> int:
    """Seconds of graceful deletion: what was asked, else the pod's own; 0 for pods that no node runs."""
    phase = (pod.get("status") or {}).get("phase")
    if not pod["spec"].get("nodeName") or phase in ("Succeeded", "Failed"):
        return 0
    if asked is None:
        asked = pod["spec"].get("terminationGracePeriodSeconds", 30)
    return max(int(asked), 0) if asked >= 0 else 1
