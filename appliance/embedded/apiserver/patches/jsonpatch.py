"""JSON patch (RFC 6902) on a private copy; a failing operation refuses the whole patch with its number and path."""

from __future__ import annotations

from typing import Any

from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.status import ApiStatus, bad_request

MAX_OPERATIONS = 10_000
_MISSING = object()


class _Failed(Exception):
    """An operation that cannot be applied."""


def apply_json_patch(target: dict[str, Any], operations: list[Any], res: Resource, name: str) -> Any:
    """``target`` with all ``operations``; ApiStatus 400 for malformed ones, 422 for ones that do not apply."""
    if len(operations) > MAX_OPERATIONS:
        raise ApiStatus(
            413, "RequestEntityTooLarge", f"at most {MAX_OPERATIONS} operations are allowed in a JSON patch"
        )
    document: Any = copy_json(target)
    for index, operation in enumerate(operations):
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise bad_request(f"JSON patch operation {index}: expected an object with op and path")
        try:
            document = _operate(document, operation)
        except _Failed as error:
            message = f"the server rejected our request due to an error in our request: operation {index}: {error}"
            details = {"kind": res.plural, "name": name}
            raise ApiStatus(422, "Invalid", message, details=details) from None
    return document


def copy_json(value: Any) -> Any:
    """A deep copy of a JSON value."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    return [copy_json(item) for item in value] if isinstance(value, list) else value


def _operate(document: Any, operation: dict[str, Any]) -> Any:
    op, path = operation.get("op"), operation["path"]
    if op in ("add", "replace", "test") and "value" not in operation:
        raise _Failed(f"{op} {path}: value is missing")
    if op == "test":
        if _get(document, path) != operation["value"]:
            raise _Failed(f"testing path {path} failed")
        return document
    if op == "remove":
        return _remove(document, path)
    if op == "replace":
        _get(document, path)
        return _set(document, path, copy_json(operation["value"]), insert=False)
    if op == "add":
        return _set(document, path, copy_json(operation["value"]), insert=True)
    if op in ("copy", "move"):
        source = operation.get("from")
        if not isinstance(source, str):
            raise _Failed(f"{op} {path}: from is missing")
        value = copy_json(_get(document, source))
        if op == "move":
            document = _remove(document, source)
        return _set(document, path, value, insert=True)
    raise _Failed(f"unexpected kind of operation: {op}")


def _keys(path: str) -> list[str]:
    if path == "":
        return []
    if not path.startswith("/"):
        raise _Failed(f"path {path!r} must start with /")
    return [part.replace("~1", "/").replace("~0", "~") for part in path[1:].split("/")]


def _child(value: Any, key: str, path: str) -> Any:
    found: Any = _MISSING
    if isinstance(value, dict):
        found = value.get(key, _MISSING)
    elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
        found = value[int(key)]
    if found is _MISSING:
        raise _Failed(f"path {path} does not exist")
    return found


def _get(document: Any, path: str) -> Any:
    for key in _keys(path):
        document = _child(document, key, path)
    return document


def _parent(document: Any, path: str) -> tuple[Any, str]:
    keys = _keys(path)
    for key in keys[:-1]:
        document = _child(document, key, path)
    return document, keys[-1]


def _set(document: Any, path: str, value: Any, *, insert: bool) -> Any:
    if path == "":
        return value
    parent, key = _parent(document, path)
    if isinstance(parent, dict):
        parent[key] = value
    elif isinstance(parent, list) and key == "-" and insert:
        parent.append(value)
    elif isinstance(parent, list) and key.isdigit() and int(key) < len(parent) + insert:
        parent[int(key) : int(key) + (not insert)] = [value]
    else:
        raise _Failed(f"path {path} does not exist")
    return document


def _remove(document: Any, path: str) -> Any:
    _get(document, path)
    if path == "":
        raise _Failed("the whole document cannot be removed")
    parent, key = _parent(document, path)
    if isinstance(parent, dict):
        del parent[key]
    else:
        del parent[int(key)]
    return document
