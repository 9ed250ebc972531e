"""Strategic merge patch for core kinds: lists with a merge key are merged item by item.

Directives: ``$patch: delete|replace|merge``, ``$deleteFromPrimitiveList/FIELD``, ``$setElementOrder/FIELD``,
``$retainKeys``. Merge keys come from the schema tree. Copy-on-write like the merge patch.
"""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.schema.node import Node
from appliance.embedded.apiserver.status import bad_request

Object = dict[str, Any]
_DELETE_FROM = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"


def strategic_merge(node: Node | None, target: Object, patch: Object) -> Object:
    """``target`` with ``patch`` applied; ApiStatus 400 for a directive that cannot be obeyed."""
    directive = patch.get("$patch")
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    if directive == "delete":
        return {}
    if directive not in (None, "merge"):
        raise bad_request(f"Unknown patch type found: {directive}")
    merged = dict(target)
    if isinstance(patch.get("$retainKeys"), list):
        merged = {key: value for key, value in merged.items() if key in patch["$retainKeys"]}
    for key, value in patch.items():
        if not key.startswith("$"):
            _merge_field(node, merged, key, value)
    for key, value in patch.items():
        _obey(node, merged, key, value)
    return merged


def _child(node: Node | None, key: str) -> Node | None:
    return None if node is None else node.properties.get(key, node.additional)


def _merge_field(node: Node | None, merged: Object, key: str, value: Any) -> None:
    child = _child(node, key)
    before = merged.get(key)
    if value is None:
        merged.pop(key, None)
    elif isinstance(value, dict):
        start = before if isinstance(before, dict) and not (child is not None and child.map_atomic) else {}
        result = strategic_merge(child, start, value)
        if value.get("$patch") == "delete":
            merged.pop(key, None)
        else:
            merged[key] = result
    elif isinstance(value, list) and child is not None and child.merge_key is not None:
        merged[key] = _merge_list(child, before if isinstance(before, list) else [], value)
    else:
        merged[key] = value


def _merge_list(node: Node, before: list[Any], patch: list[Any]) -> list[Any]:
    key = node.merge_key
    if not key:
        return [*before, *(item for item in patch if item not in before)]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [item for item in patch if not (isinstance(item, dict) and "$patch" in item)]
    result = list(before)
    for item in patch:
        if not isinstance(item, dict):
            raise bad_request(f"expected an object in a list merged by {key}, got {item!r}")
        if item.get(key) is None:
            raise bad_request(f"map: {item} does not contain declared merge key: {key}")
        place = next((i for i, old in enumerate(result) if isinstance(old, dict) and old.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [old for old in result if old.get(key) != item[key]]
        elif place is None:
            result.append(strategic_merge(node.items, {}, item))
        else:
            result[place] = strategic_merge(node.items, result[place], item)
    return result


def _obey(node: Node | None, merged: Object, key: str, value: Any) -> None:
    if key.startswith(_DELETE_FROM):
        field = key.removeprefix(_DELETE_FROM)
        if isinstance(merged.get(field), list):
            merged[field] = [item for item in merged[field] if item not in value]
    elif key.startswith(_ORDER):
        field = key.removeprefix(_ORDER)
        if isinstance(merged.get(field), list) and isinstance(value, list):
            child = _child(node, field)
            merged[field] = _ordered(merged[field], value, child.merge_key if child else None)


def _ordered(items: list[Any], order: list[Any], key: str | None) -> list[Any]:
    """Items in the wanted order; those the order does not mention keep their place after their predecessor."""

    def identity(item: Any) -> Any:
        return item.get(key) if key and isinstance(item, dict) else item

    wanted = {repr(identity(item)): position for position, item in enumerate(order)}
    ranks: list[tuple[float, int, Any]] = []
    last = -1.0
    for index, item in enumerate(items):
        last = wanted.get(repr(identity(item)), last)
        ranks.append((last, index, item))
    return [item for _, _, item in sorted(ranks, key=lambda rank: rank[:2])]
