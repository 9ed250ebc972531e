"""Sets of owned fields: the language of ``managedFields`` (fieldsV1).

A path is a tuple of elements: ``f:NAME`` a field, ``k:{"name":"x"}`` an item of a keyed list, ``v:…`` an item of a set.
``fields_of`` flattens an object into ``path → value``; atomic values (and lists without keys) are one path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from appliance.embedded.apiserver.objects.meta import META
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.schema.node import Node

Path = tuple[str, ...]
Fields = dict[Path, Any]
MEMBER = object()
"""Value of a path that says "this list item exists"."""
_OURS = (
    "name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
    "resourceVersion", "managedFields", "selfLink", "generateName",
)  # fmt: skip


def child_node(res: Resource, key: str) -> Node | None:
    """The node of a top-level field."""
    if key == "metadata":
        return META
    return res.schema.properties.get(key) if res.schema else None


def fields_of(res: Resource, obj: dict[str, Any], *, status: bool) -> Fields:
    """Every owned path of an object. ``status``: include or leave out the status."""
    found: Fields = {}
    for key, value in obj.items():
        if key in ("apiVersion", "kind") or (key == "status" and not status):
            continue
        if key == "metadata":
            value = {name: item for name, item in value.items() if name not in _OURS}
            for name, item in value.items():
                _flatten(META.properties.get(name), item, ("f:metadata", f"f:{name}"), found)
        else:
            _flatten(child_node(res, key), value, (f"f:{key}",), found)
    return found


def _flatten(node: Node | None, value: Any, path: Path, found: Fields) -> None:
    if isinstance(value, dict) and value and not (node is not None and node.map_atomic):
        for key, item in value.items():
            _flatten(step(node, key), item, (*path, f"f:{key}"), found)
    elif isinstance(value, list) and node is not None and keyed(node):
        for item in value:
            place = (*path, item_element(node, item))
            found[place] = MEMBER
            if isinstance(item, dict):
                for key, inner in item.items():
                    _flatten(step(node.items, key), inner, (*place, f"f:{key}"), found)
    else:
        found[path] = value


def step(node: Node | None, key: str) -> Node | None:
    """The node of a field of ``node``; None below schemaless parts."""
    return None if node is None else node.properties.get(key, node.additional)


def keyed(node: Node) -> bool:
    """Whether items of this list have an identity of their own."""
    return bool(node.list_keys) or node.list_type == "set"


def item_element(node: Node, item: Any) -> str:
    """The path element of a list item."""
    if not node.list_keys:
        return "v:" + json.dumps(item, separators=(",", ":"))
    keys = {}
    for key in node.list_keys:
        prop = node.items.properties.get(key) if node.items else None
        default = prop.default if prop is not None and isinstance(prop.default, str | int) else None
        value = item.get(key, default) if isinstance(item, dict) else None
        if value is not None:
            keys[key] = value
    return "k:" + json.dumps(keys, separators=(",", ":"), sort_keys=True)


def to_fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """The nested form stored in ``managedFields``."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        place = tree
        for element in path:
            place = place.setdefault(element, {})
        if path[-1].startswith("k:"):
            place.setdefault(".", {})
    return tree


def from_fields_v1(tree: Any, prefix: Path = ()) -> set[Path]:
    """The paths of a stored ``fieldsV1``; anything malformed owns nothing."""
    if not isinstance(tree, dict):
        return set()
    if not tree:
        return {prefix} if prefix else set()
    found: set[Path] = set()
    for element, inner in tree.items():
        if element == ".":
            found.add(prefix)
        else:
            found |= from_fields_v1(inner, (*prefix, element))
    return found


def show(path: Path) -> str:
    """``.spec.containers[name="x"].image`` as conflict messages print it."""
    text = ""
    for element in path:
        kind, value = element[:2], element[2:]
        if kind == "k:":
            pairs = ",".join(f"{key}={json.dumps(item)}" for key, item in json.loads(value).items())
            text += f"[{pairs}]"
        else:
            text += f"[={value}]" if kind == "v:" else f".{value}"
    return text
