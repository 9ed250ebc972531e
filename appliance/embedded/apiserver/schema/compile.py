"""CRD schemas: checked for being structural, compiled to :class:`Node` trees, refused by name when they ask for more.

Not supported, and said so: CEL rules outside the subset of ``cel.py``, ``$ref``, ``uniqueItems``, and their like.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from appliance.embedded.apiserver.schema.cel import Rule, RuleError
from appliance.embedded.apiserver.schema.core import core_node
from appliance.embedded.apiserver.schema.node import UNSET, Node
from appliance.embedded.apiserver.status import FieldError

_TYPES = ("object", "array", "string", "integer", "number", "boolean")
_FORBIDDEN = ("$ref", "patternProperties", "dependencies", "definitions", "additionalItems", "uniqueItems")
_LIMITS = {
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_items",
    "maxItems": "max_items",
    "minProperties": "min_properties",
    "maxProperties": "max_properties",
    "minimum": "minimum",
    "maximum": "maximum",
    "multipleOf": "multiple_of",
}
MAX_DEPTH = 64


def compile_schema(schema: Mapping[str, Any], path: str, errors: list[FieldError]) -> Node:
    """The node of a root schema; problems are appended to ``errors`` with their path under ``path``."""
    node = _compile(schema, path, errors, 0)
    if schema.get("type") != "object":
        errors.append(
            FieldError(f"{path}.type", "FieldValueInvalid", "Invalid value: the root schema must be type object")
        )
    string = Node(type="string")
    node.properties = node.properties | {
        "apiVersion": string,
        "kind": string,
        "metadata": core_node("meta.v1.ObjectMeta"),
    }
    node.seal()
    return node


def _compile(schema: Mapping[str, Any], path: str, errors: list[FieldError], depth: int) -> Node:
    if not isinstance(schema, Mapping):
        errors.append(FieldError(path, "FieldValueInvalid", "Invalid value: must be an object"))
        return Node(preserve=True)
    refused = [word for word in _FORBIDDEN if schema.get(word)]
    errors.extend(
        FieldError(f"{path}.{word}", "FieldValueForbidden", f"Forbidden: {word} is not supported") for word in refused
    )
    node = Node(
        nullable=bool(schema.get("nullable")),
        preserve=bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        int_or_string=bool(schema.get("x-kubernetes-int-or-string")),
        embedded=bool(schema.get("x-kubernetes-embedded-resource")),
        default=schema.get("default", UNSET),
        required=tuple(schema.get("required") or ()),
        format=schema.get("format"),
        enum=tuple(schema["enum"]) if schema.get("enum") else None,
        exclusive_minimum=bool(schema.get("exclusiveMinimum")),
        exclusive_maximum=bool(schema.get("exclusiveMaximum")),
    )
    for word, attribute in _LIMITS.items():
        setattr(node, attribute, schema.get(word))
    _type(node, schema, path, errors)
    if depth < MAX_DEPTH:
        _children(node, schema, path, errors, depth)
    else:
        errors.append(FieldError(path, "FieldValueInvalid", f"Invalid value: nested deeper than {MAX_DEPTH}"))
    _lists(node, schema, path, errors)
    _rules(node, schema, path, errors)
    node.seal()
    return node


def _type(node: Node, schema: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    kind = schema.get("type")
    if kind is None:
        if not node.int_or_string and not node.preserve and not _junction_only(path):
            text = "Required value: must not be empty for specified object fields"
            errors.append(FieldError(f"{path}.type", "FieldValueRequired", text))
    elif kind not in _TYPES:
        shown = ", ".join(f'"{name}"' for name in _TYPES)
        errors.append(
            FieldError(
                f"{path}.type", "FieldValueNotSupported", f'Unsupported value: "{kind}": supported values: {shown}'
            )
        )
    else:
        node.type = kind
    if schema.get("pattern"):
        try:
            node.pattern, node.pattern_text = re.compile(_python_pattern(schema["pattern"])), schema["pattern"]
        except re.error as error:
            text = f'Invalid value: "{schema["pattern"]}": must be a valid regular expression, but isn\'t: {error}'
            errors.append(FieldError(f"{path}.pattern", "FieldValueInvalid", text))


def _junction_only(path: str) -> bool:
    """Branches of anyOf and its family carry constraints only, so they need no type."""
    return any(f".{word}[" in path for word in ("anyOf", "oneOf", "allOf")) or ".not" in path


def _python_pattern(pattern: str) -> str:
    """RE2 and Python differ in the end-of-text anchors; ``$`` in RE2 never matches before a final newline."""
    return re.sub(r"(?<!\\)\$(?=$|\)|\|)", r"\\Z", pattern.replace(r"\z", r"\Z"))


def _children(node: Node, schema: Mapping[str, Any], path: str, errors: list[FieldError], depth: int) -> None:
    for name, child in (schema.get("properties") or {}).items():
        node.properties[name] = _compile(child, f"{path}.properties[{name}]", errors, depth + 1)
    extra = schema.get("additionalProperties")
    if isinstance(extra, Mapping):
        node.additional = _compile(extra, f"{path}.additionalProperties", errors, depth + 1)
    elif extra is True:
        node.preserve = True
    if node.embedded:
        node.properties.setdefault("metadata", core_node("meta.v1.ObjectMeta"))
        for name in ("apiVersion", "kind"):
            node.properties.setdefault(name, Node(type="string"))
    items = schema.get("items")
    if isinstance(items, Mapping):
        node.items = _compile(items, f"{path}.items", errors, depth + 1)
    elif schema.get("type") == "array":
        text = "Required value: must be specified"
        errors.append(FieldError(f"{path}.items", "FieldValueRequired", text))
    node.one_of = _junctions(schema, path, errors, depth)


def _junctions(
    schema: Mapping[str, Any], path: str, errors: list[FieldError], depth: int
) -> tuple[tuple[str, tuple[Node, ...]], ...]:
    found = []
    for word in ("anyOf", "oneOf", "allOf"):
        branches = schema.get(word)
        if branches and not (word == "anyOf" and schema.get("x-kubernetes-int-or-string")):
            nodes = [_compile(b, f"{path}.{word}[{i}]", errors, depth + 1) for i, b in enumerate(branches)]
            found.append((word, tuple(_loose(node) for node in nodes)))
    if isinstance(schema.get("not"), Mapping):
        found.append(("not", (_loose(_compile(schema["not"], f"{path}.not", errors, depth + 1)),)))
    return tuple(found)


def _loose(node: Node) -> Node:
    """A branch constrains only; what it does not mention is not unknown."""
    props = {name: _loose(child) for name, child in node.properties.items()}
    items = _loose(node.items) if node.items else None
    return replace(node, properties=props, items=items, preserve=True, defaulted=())


def _lists(node: Node, schema: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    node.list_type = schema.get("x-kubernetes-list-type")
    node.list_keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
    node.map_atomic = schema.get("x-kubernetes-map-type") == "atomic"
    if node.list_type not in (None, "atomic", "set", "map"):
        shown = f'Unsupported value: "{node.list_type}": supported values: "atomic", "map", "set"'
        errors.append(FieldError(f"{path}.x-kubernetes-list-type", "FieldValueNotSupported", shown))
    if node.list_type == "map" and not node.list_keys:
        text = "Required value: must not be empty if x-kubernetes-list-type is map"
        errors.append(FieldError(f"{path}.x-kubernetes-list-map-keys", "FieldValueRequired", text))
    if node.list_type != "map" and node.list_keys:
        text = "Invalid value: must be map if x-kubernetes-list-map-keys is non-empty"
        errors.append(FieldError(f"{path}.x-kubernetes-list-type", "FieldValueInvalid", text))


def _rules(node: Node, schema: Mapping[str, Any], path: str, errors: list[FieldError]) -> None:
    rules = []
    for index, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        where = f"{path}.x-kubernetes-validations[{index}].rule"
        try:
            rules.append(Rule.compile(rule))
        except RuleError as error:
            text = f"Invalid value: {rule.get('rule')!r}: {error} (the embedded cluster evaluates a subset of CEL)"
            errors.append(FieldError(where, "FieldValueInvalid", text))
    node.rules = tuple(rules)
