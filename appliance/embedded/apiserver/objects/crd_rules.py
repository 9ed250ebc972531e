"""CustomResourceDefinitions: defaults, validation, and the served resource they describe.

A CRD is refused by name when it asks for what this cluster does not do: several served versions, a CEL rule outside the
subset, or taking over a built-in kind.
"""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.objects.meta import Object, now
from appliance.embedded.apiserver.resources import Resource, ScaleSpec
from appliance.embedded.apiserver.schema.compile import compile_schema
from appliance.embedded.apiserver.status import FieldError
from appliance.embedded.apiserver.tables.jsonpath import JsonPath, JsonPathError

RESERVED_GROUPS = frozenset({"", "apiextensions.k8s.io", "authorization.k8s.io", "coordination.k8s.io"})
Errors = list[FieldError]


def admit(obj: Object, _node: str) -> None:
    """Defaults the names and sets the status: an accepted CRD is served at once."""
    _default_names(obj)
    instant = now()
    conditions = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    obj["status"] = {
        "conditions": [
            {"type": kind, "status": "True", "lastTransitionTime": instant, "reason": reason, "message": message}
            for kind, reason, message in conditions
        ],
        "acceptedNames": obj["spec"]["names"],
        "storedVersions": [
            version.get("name") for version in obj["spec"].get("versions") or () if version.get("storage")
        ],
    }


def _default_names(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    kind = str(names.get("kind", ""))
    names.setdefault("singular", kind.lower())
    names.setdefault("listKind", kind + "List")
    spec.setdefault("conversion", {"strategy": "None"})


def amend(old: Object, new: Object, subresource: str | None) -> None:
    """An updated CRD keeps its status, with the new names."""
    if subresource is None:
        _default_names(new)
        new["status"] = {**(old.get("status") or {}), "acceptedNames": new["spec"]["names"]}


def validate(new: Object, old: Object | None, subresource: str | None, errors: Errors) -> None:
    """Appends everything that keeps a CRD from being served."""
    if subresource == "status":
        return
    spec = new["spec"]
    names = spec.get("names") or {}
    for field in ("group", "scope"):
        if not spec.get(field):
            errors.append(FieldError(f"spec.{field}", "FieldValueRequired", "Required value"))
    if spec.get("scope") not in (None, "Namespaced", "Cluster"):
        text = f'Unsupported value: "{spec["scope"]}": supported values: "Cluster", "Namespaced"'
        errors.append(FieldError("spec.scope", "FieldValueNotSupported", text))
    expected = f"{names.get('plural')}.{spec.get('group')}"
    if new["metadata"]["name"] != expected:
        text = f'Invalid value: "{new["metadata"]["name"]}": must be spec.names.plural+"."+spec.group'
        errors.append(FieldError("metadata.name", "FieldValueInvalid", text))
    if spec.get("group") in RESERVED_GROUPS:
        text = f'Invalid value: "{spec.get("group")}": the group belongs to built-in kinds'
        errors.append(FieldError("spec.group", "FieldValueInvalid", text))
    if old is not None and (old["spec"]["scope"], old["spec"]["group"]) != (spec.get("scope"), spec.get("group")):
        errors.append(FieldError("spec.scope", "FieldValueInvalid", "Invalid value: field is immutable"))
    if not errors:
        resource_of(new, errors)


def resource_of(crd: Object, errors: Errors) -> Resource | None:
    """The served resource of a CRD, or None with the reasons appended to ``errors``."""
    spec = crd["spec"]
    served = [version for version in spec.get("versions") or () if version.get("served")]
    if len(served) != 1 or not served[0].get("storage"):
        text = "Invalid value: the embedded cluster serves exactly one version, which must also be the storage version"
        errors.append(FieldError("spec.versions", "FieldValueInvalid", text))
        return None
    version = served[0]
    place = f"spec.versions[{spec['versions'].index(version)}]"
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if not isinstance(schema, dict):
        errors.append(
            FieldError(f"{place}.schema.openAPIV3Schema", "FieldValueRequired", "Required value: schemas are required")
        )
        return None
    node = compile_schema(schema, f"{place}.schema.openAPIV3Schema", errors)
    columns = _columns(version, place, errors)
    subresources = version.get("subresources") or {}
    scale = _scale(subresources.get("scale"), f"{place}.subresources.scale", errors)
    names = spec["names"]
    if errors:
        return None
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular") or names["kind"].lower(),
        list_kind=names.get("listKind") or names["kind"] + "List",
        short_names=tuple(names.get("shortNames") or ()),
        categories=tuple(names.get("categories") or ()),
        subresources=frozenset(name for name in ("status", "scale") if subresources.get(name) is not None),
        schema=node,
        openapi=schema,
        scale=scale,
        columns=columns,
        custom=True,
        selectable=tuple(str(f.get("jsonPath", "")).lstrip(".") for f in version.get("selectableFields") or ()),
    )


def _columns(version: dict[str, Any], place: str, errors: Errors) -> tuple[dict[str, Any], ...]:
    columns = tuple(version.get("additionalPrinterColumns") or ())
    for index, column in enumerate(columns):
        try:
            JsonPath.parse(str(column.get("jsonPath", "")))
        except JsonPathError as error:
            text = f'Invalid value: "{column.get("jsonPath")}": {error}'
            where = f"{place}.additionalPrinterColumns[{index}].jsonPath"
            errors.append(FieldError(where, "FieldValueInvalid", text))
    return columns


def _scale(spec: Any, place: str, errors: Errors) -> ScaleSpec | None:
    if not isinstance(spec, dict):
        return None
    for field, prefix in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        if not str(spec.get(field, "")).startswith(prefix):
            text = f'Invalid value: "{spec.get(field, "")}": should be a json path under {prefix[:-1]}'
            errors.append(FieldError(f"{place}.{field}", "FieldValueInvalid", text))
    selector = spec.get("labelSelectorPath")
    return ScaleSpec(
        _keys(str(spec.get("specReplicasPath", ""))),
        _keys(str(spec.get("statusReplicasPath", ""))),
        _keys(selector) if selector else None,
    )


def _keys(path: str) -> tuple[str, ...]:
    return tuple(path.strip(".").split("."))
