"""A strategic merge patch of a pod template, as ``kubectl patch`` and the API server apply it to pods.

Objects are merged key by key, null removes a key. Lists of a pod whose elements have a merge key (containers by name,
mounts by path) are merged element by element; all others are replaced. ``$patch: delete`` removes an element or an
object, ``$patch: replace`` takes it as given. The merge keys are those of Kubernetes' core/v1 types. Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "env": "name",
    "resourceClaims": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
}
_DIRECTIVE = "$patch"


def patched(template: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The template with the patch applied; neither is changed.

    Raises ValueError naming the field of a list element without its merge key, or of an unknown directive.
    """
    return _merge(copy.deepcopy(dict(template)), patch, "patch")


def _merge(target: dict[str, Any], patch: Mapping[str, Any], path: str) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive not in (None, "replace", "merge", "delete"):
        raise ValueError(f"{path}.$patch: expected replace, merge or delete, got {directive!r}")
    if directive == "delete":
        return {}
    result = {} if directive == "replace" else target
    for key, value in patch.items():
        where = f"{path}.{key}"
        if key == _DIRECTIVE:
            continue
        if key.startswith("$"):
            raise ValueError(f"{where}: expected no directive but $patch")
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            present = result.get(key)
            result[key] = _merge(present if isinstance(present, dict) else {}, value, where)
        elif isinstance(value, list) and key in _KEYS:
            present = result.get(key)
            result[key] = _merge_list(present if isinstance(present, list) else [], value, _KEYS[key], where)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_list(present: list[Any], patch: Sequence[Any], merge_key: str, path: str) -> list[Any]:
    if any(isinstance(item, Mapping) and item.get(_DIRECTIVE) == "replace" for item in patch):
        return [copy.deepcopy(item) for item in patch if _DIRECTIVE not in item]
    result = list(present)
    for number, item in enumerate(patch):
        if not isinstance(item, Mapping) or merge_key not in item:
            raise ValueError(f"{path}[{number}].{merge_key}: expected a value, by which elements are merged")
        place = next((at for at, known in enumerate(result) if known.get(merge_key) == item[merge_key]), None)
        if item.get(_DIRECTIVE) == "delete":
            if place is not None:
                del result[place]
        elif place is None:
            result.append(_merge({}, item, f"{path}[{number}]"))
        else:
            result[place] = _merge(result[place], item, f"{path}[{number}]")
    return result


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch that turns one object into the other: what is gone is null."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            inner = merge_patch(before, value)
            if inner:
                patch[key] = inner
        elif key not in old or before != value:
            patch[key] = value
    return patch
