"""Kinds with behaviour of their own: what happens to them at create, update and validation.

A hook changes the new object in place (admission, defaults) or appends field errors. Kinds without an entry behave
like any object.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from appliance.api.labels import GROUP
from appliance.embedded.apiserver.objects import crd_rules, pods, templates
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.status import FieldError

Admit = Callable[[Object, str], None]
"""(new object, node name): admission and defaults at create."""
Amend = Callable[[Object, Object, str | None], None]
"""(old, new, subresource): what an update may not change is put back."""
Validate = Callable[[Object, Object | None, str | None, list[FieldError]], None]
"""(new, old or None at create, subresource, errors)."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of one kind; None: nothing to do."""

    create: Admit | None = None
    update: Amend | None = None
    validate: Validate | None = None


def _namespace(obj: Object, _node: str) -> None:
    obj["spec"] = {"finalizers": ["kubernetes"]}
    obj["status"] = {"phase": "Active"}
    labels = obj["metadata"].setdefault("labels", {})
    labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]


def _secret(obj: Object, _node: str) -> None:
    obj.setdefault("type", "Opaque")
    _merge_string_data(obj)


def _merge_string_data(obj: Object) -> None:
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        obj["data"] = (obj.get("data") or {}) | encoded


def _secret_update(old: Object, new: Object, _sub: str | None) -> None:
    new.setdefault("type", old.get("type", "Opaque"))
    _merge_string_data(new)


def _immutable_data(new: Object, old: Object | None, _sub: str | None, errors: list[FieldError]) -> None:
    if old is None or not old.get("immutable"):
        return
    text = "Forbidden: field is immutable when `immutable` is set"
    changed = [field for field in ("data", "binaryData", "immutable") if new.get(field) != old.get(field)]
    errors.extend(FieldError(field, "FieldValueForbidden", text) for field in changed)


def _service(obj: Object, _node: str) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port.get("port"))
    obj.setdefault("status", {"loadBalancer": {}})


def _claim(obj: Object, _node: str) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj["status"] = {"phase": "Pending"}


def _validate_claim(new: Object, old: Object | None, _sub: str | None, errors: list[FieldError]) -> None:
    spec = new.get("spec") or {}
    if not spec.get("accessModes"):
        errors.append(
            FieldError("spec.accessModes", "FieldValueRequired", "Required value: at least 1 access mode is required")
        )
    if not ((spec.get("resources") or {}).get("requests") or {}).get("storage"):
        errors.append(FieldError("spec.resources[storage]", "FieldValueRequired", "Required value"))
    if old is not None and old["spec"].get("storageClassName") != spec.get("storageClassName"):
        text = "Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName"
        errors.append(FieldError("spec", "FieldValueForbidden", text))


HOOKS: Mapping[str, Hooks] = {
    "pods": Hooks(pods.admit, pods.amend, pods.validate),
    "namespaces": Hooks(_namespace),
    "secrets": Hooks(_secret, _secret_update, _immutable_data),
    "configmaps": Hooks(validate=_immutable_data),
    "services": Hooks(_service),
    "persistentvolumeclaims": Hooks(_claim, None, _validate_claim),
    "customresourcedefinitions.apiextensions.k8s.io": Hooks(crd_rules.admit, crd_rules.amend, crd_rules.validate),
    f"sandboxes.{GROUP}": Hooks(validate=templates.validate),
    f"sandboxsets.{GROUP}": Hooks(validate=templates.validate),
    f"sandboxtemplates.{GROUP}": Hooks(validate=templates.validate),
}
NO_HOOKS = Hooks()
