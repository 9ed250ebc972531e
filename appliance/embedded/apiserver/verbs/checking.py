"""What an object must pass before it is written: schema, metadata, and the rules of its kind."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from appliance.embedded.apiserver.objects import meta as rules
from appliance.embedded.apiserver.objects.hooks import HOOKS, NO_HOOKS
from appliance.embedded.apiserver.objects.meta import Object
from appliance.embedded.apiserver.objects.templates import unknown_fields as template_unknown_fields
from appliance.embedded.apiserver.objects.templates import validate as template_validate
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.schema.check import Check, type_names
from appliance.embedded.apiserver.status import FieldError, bad_request, invalid

MAX_REPLICAS = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Options:
    """How to write. ``validation`` is Strict, Warn or Ignore (unknown fields)."""

    dry_run: bool = False
    manager: str = "unknown"
    validation: str = "Ignore"


def check_schema(res: Resource, obj: Object, old: Object | None, opts: Options, warnings: list[str]) -> Check:
    """Prunes, defaults and type-checks ``obj``; ApiStatus 400 for unreadable types and strict unknown fields."""
    walk = Check()
    if res.schema is None:
        return walk
    former = old or {}
    walk.required = res.custom
    for key in list(obj):
        child = res.schema.properties.get(key)
        if child is None and res.schema.preserve:
            continue
        if child is None:
            obj.pop(key)
            walk.unknown.append(key)
        elif obj[key] is None and key != "metadata":
            obj.pop(key)
        else:
            walk.required = res.custom or key == "spec"
            walk.walk(child, obj[key], former.get(key), (None, key))
    walk.required = True
    _root(res, walk, obj, old)
    if HOOKS.get(res.key, NO_HOOKS).validate is template_validate:
        walk.unknown.extend(template_unknown_fields(obj, old))
    _report(res, walk, opts, warnings)
    return walk


def _root(res: Resource, walk: Check, obj: Object, old: Object | None) -> None:
    schema = res.schema
    if schema is None or not res.custom:
        return
    for key in schema.defaulted:
        if key not in obj:
            obj[key] = rules.copy_json(schema.properties[key].default)
            walk.walk(schema.properties[key], obj[key], None, (None, key))
    for key in schema.required:
        if key not in obj:
            walk.error((None, key), "FieldValueRequired", "Required value")
    walk.rules(schema, obj, old, None)


def _report(res: Resource, walk: Check, opts: Options, warnings: list[str]) -> None:
    prefix = f'{res.kind} in version "{res.version}" cannot be handled as a {res.kind}: '
    if walk.mistyped:
        raise bad_request(prefix + walk.mistyped[0])
    if walk.unknown and opts.validation == "Strict":
        texts = ", ".join(f'unknown field "{path}"' for path in walk.unknown[:20])
        raise bad_request(prefix + "strict decoding error: " + texts)
    if walk.unknown and opts.validation == "Warn":
        warnings.extend(f'unknown field "{path}"' for path in walk.unknown[:20])


def validate(res: Resource, walk: Check, obj: Object, old: Object | None, subresource: str | None) -> None:
    """Metadata, kind rules and what the walk found; ApiStatus 422 naming every wrong field."""
    hooks = HOOKS.get(res.key, NO_HOOKS)
    errors: list[FieldError] = []
    if old is None or obj["metadata"] != old["metadata"]:
        rules.validate_meta(res, obj["metadata"], errors)
    if res.scale is not None:
        _scale(res.scale.spec_replicas, obj, walk.errors)
    errors += walk.verdict(res.schema is not None and res.schema.ruled)
    if hooks.validate is not None and not errors:
        hooks.validate(obj, old, subresource, errors)
    if errors:
        raise invalid(res, obj["metadata"]["name"], errors)


def _scale(keys: tuple[str, ...], obj: Object, errors: list[FieldError]) -> None:
    """The scale subresource must be able to read its number, whatever the schema allows."""
    value: Any = obj
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    path = "".join(f".{key}" for key in keys)
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        kind = type_names[type(value)]
        shown = value if isinstance(value, str) else json.dumps(value)
        detail = f"Invalid value: 0: {path} accessor error: {shown} is of the type {kind}, expected int64"
        errors.append(FieldError(path, "FieldValueInvalid", detail))
    elif value < 0:
        text = f"Invalid value: {value}: should be a non-negative integer"
        errors.append(FieldError(path, "FieldValueInvalid", text))
    elif value > MAX_REPLICAS:
        text = f"Invalid value: {value}: should be less than or equal to {MAX_REPLICAS}"
        errors.append(FieldError(path, "FieldValueInvalid", text))
