"""Server-side apply: merge what a manager declares, own it, refuse what others own with another value.

Fields the manager declared before and no longer does are removed unless somebody else owns them too.
"""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.objects.meta import Object, copy_json
from appliance.embedded.apiserver.patches.fieldset import (
    MEMBER,
    Fields,
    Path,
    child_node,
    fields_of,
    item_element,
    keyed,
    show,
    step,
)  # fmt: skip
from appliance.embedded.apiserver.patches.managed import Manager, Managers
from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.schema.node import Node
from appliance.embedded.apiserver.status import ApiStatus


def apply_object(
    res: Resource, old: Object | None, config: Object, name: str, force: bool, subresource: str | None
) -> Object:
    """The merged object with its new ``managedFields``; ApiStatus 409 listing every conflict.

    ``old`` None: a new object; then only its ``managedFields`` are of interest.
    """
    me = Manager(name, "Apply", subresource or "")
    managers = Managers(res, old)
    include_status = subresource == "status" or "status" not in res.subresources
    applied = fields_of(res, config, status=include_status)
    current = fields_of(res, old, status=True) if old is not None else {}
    _settle_conflicts(res, managers, me, applied, current, force)
    merged = _merge_root(res, old or {}, config)
    for path in sorted(managers.sets.get(me, set()) - applied.keys(), key=len, reverse=True):
        if not _owned_elsewhere(managers, me, path):
            _drop(res, merged, path)
    managers.give(me, set(applied))
    merged["metadata"]["managedFields"] = managers.entries()
    return merged


def _settle_conflicts(
    res: Resource, managers: Managers, me: Manager, applied: Fields, current: Fields, force: bool
) -> None:
    causes = []
    for other in managers.others(me):
        clash = {
            path for path in managers.sets[other] & applied.keys()
            if applied[path] is not MEMBER and current.get(path) != applied[path]
        }  # fmt: skip
        if force:
            managers.take(other, clash)
        using = f'conflict with "{other.name}"' + (
            f' with subresource "{other.subresource}"' if other.subresource else ""
        )
        if other.operation == "Update":
            using += f" using {res.api_version}"
        causes += [{"reason": "FieldManagerConflict", "message": using, "field": show(path)} for path in sorted(clash)]
    if causes and not force:
        count = f"{len(causes)} conflict" + ("s" if len(causes) > 1 else "")
        listed = "\n".join(f"{cause['message']}: {cause['field']}" for cause in causes)
        joiner = ": " if len(causes) == 1 else ":\n"
        raise ApiStatus(409, "Conflict", f"Apply failed with {count}{joiner}{listed}", details={"causes": causes})


def _owned_elsewhere(managers: Managers, me: Manager, path: Path) -> bool:
    size = len(path)
    return any(owned[:size] == path for other in managers.others(me) for owned in managers.sets[other])


def _merge_root(res: Resource, old: Object, config: Object) -> Object:
    merged = copy_json(old)
    for key, value in config.items():
        merged[key] = _merge(child_node(res, key), merged.get(key), value)
    return dict(merged)


def _merge(node: Node | None, old: Any, new: Any) -> Any:
    if isinstance(new, dict) and isinstance(old, dict) and not (node is not None and node.map_atomic):
        for key, value in new.items():
            old[key] = _merge(step(node, key), old.get(key), value)
        return old
    if isinstance(new, list) and isinstance(old, list) and node is not None and keyed(node):
        return _merge_items(node, old, new)
    return copy_json(new)


def _merge_items(node: Node, old: list[Any], new: list[Any]) -> list[Any]:
    """Applied items in the applied order; items of others keep their place behind their predecessor."""
    known = {item_element(node, item): item for item in old}
    wanted = [item_element(node, item) for item in new]
    result = [
        (element, _merge(node.items, known.get(element), item)) for element, item in zip(wanted, new, strict=True)
    ]
    place = 0
    for element, item in known.items():
        if element in wanted:
            place = next(i for i, (name, _) in enumerate(result) if name == element) + 1
        else:
            result.insert(place, (element, item))
            place += 1
    return [item for _, item in result]


def _drop(res: Resource, merged: Object, path: Path) -> None:
    """Removes one path; parents that become empty maps stay, as in Kubernetes."""
    node: Node | None = child_node(res, path[0][2:])
    value: Any = merged.get(path[0][2:])
    if len(path) == 1:
        merged.pop(path[0][2:], None)
        return
    for element in path[1:-1]:
        node, value = _descend(node, value, element)
    last = path[-1]
    if isinstance(value, dict):
        value.pop(last[2:], None)
    elif isinstance(value, list) and node is not None:
        value[:] = [item for item in value if item_element(node, item) != last]


def _descend(node: Node | None, value: Any, element: str) -> tuple[Node | None, Any]:
    if element.startswith("f:"):
        key = element[2:]
        return step(node, key), value.get(key) if isinstance(value, dict) else None
    if isinstance(value, list) and node is not None:
        found = next((item for item in value if item_element(node, item) == element), None)
        return node.items, found
    return None, None
