"""Core kinds' schemas, read from ``core_types.txt`` on first use.

The file lists names, types and list keys; this module turns each type into one shared :class:`Node`. Types are made
lazily because JSONSchemaProps refers to itself. ``core_types()`` gives the raw table to ``openapi.py``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

from appliance.embedded.apiserver.schema.node import UNSET, Node

_SCALARS = {
    "string": ("string", None),
    "boolean": ("boolean", None),
    "number": ("number", None),
    "int32": ("integer", "int32"),
    "int64": ("integer", "int64"),
    "integer": ("integer", None),
    "byte": ("string", "byte"),
    "date-time": ("string", "date-time"),
    "micro-time": ("string", "micro-time"),
}


@dataclass(frozen=True, slots=True)
class CoreField:
    """One line of the table: ``options`` are its words after the type."""

    name: str
    type: str
    required: bool
    options: dict[str, str]


@cache
def core_types() -> dict[str, list[CoreField] | str]:
    """Type name to its fields, or to the type it is an alias of."""
    text = (resources.files(__package__) / "core_types.txt").read_text()
    table: dict[str, list[CoreField] | str] = {}
    fields: list[CoreField] = []
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if line.startswith("  "):
            if line != "  @atomic":
                fields.append(_field(line.split()))
        elif " = " in line:
            name, alias = line.split(" = ")
            table[name] = alias
        else:
            table[line] = fields = []
    return table


def _field(words: list[str]) -> CoreField:
    options = {name: value for name, _, value in (word.partition("=") for word in words[2:])}
    return CoreField(words[0].rstrip("!"), words[1], words[0].endswith("!"), options)


@cache
def core_node(name: str) -> Node:
    """The node of a core type such as ``core.v1.Pod``; KeyError for a type that is not in the table."""
    fields = core_types()[name]
    if isinstance(fields, str):
        return _type_node(fields)
    node = Node(type="object", core=True, name=name)
    _building[name] = node
    for item in fields:
        node.properties[item.name] = _field_node(item)
    node.required = tuple(item.name for item in fields if item.required)
    node.seal()
    del _building[name]
    return node


_building: dict[str, Node] = {}
"""Types whose fields are being read: a reference to one of them closes a circle."""


def _type_node(kind: str) -> Node:
    if kind in _SCALARS:
        base, fmt = _SCALARS[kind]
        return _sealed(Node(type=base, format=fmt, core=True))
    if kind == "quantity":
        return _sealed(Node(format="quantity", core=True, preserve=True))
    if kind == "int-or-string":
        return _sealed(Node(int_or_string=True, core=True))
    if kind in ("any", "any-object"):
        return _sealed(Node(type=None if kind == "any" else "object", preserve=True, core=True))
    if kind.startswith("[]"):
        return Node(type="array", items=_type_node(kind[2:]), core=True)
    if kind.startswith("map:"):
        return Node(type="object", additional=_type_node(kind[4:]), core=True)
    return _building[kind] if kind in _building else core_node(kind)


def _field_node(item: CoreField) -> Node:
    options = item.options
    node = _type_node(item.type)
    if node.type == "array":
        node.merge_key = options.get("merge")
        node.retain_keys = "retain" in options
        node.list_keys = tuple(options["keys"].split(",")) if "keys" in options else ()
        node.list_type = "map" if node.list_keys else "set" if "set" in options else "atomic"
    elif "atomic" in options:
        node.map_atomic = True
    if "default" in options and node.name is None:
        node.default = json.loads(options["default"])
    return node


def _sealed(node: Node) -> Node:
    node.seal()
    return node


__all__ = ["UNSET", "CoreField", "core_node", "core_types"]
