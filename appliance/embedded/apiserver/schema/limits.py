"""Limits on single values: enum, format, pattern, sizes, and the anyOf family.

Messages are the real server's, field path first in the body part, because tools match on them.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from appliance.embedded.apiserver.schema.node import Node

if TYPE_CHECKING:
    from appliance.embedded.apiserver.schema.check import Check, Path

_QUANTITY = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+|[KMGTPE]i|[numkMGTPE])?$")
_DURATION = re.compile(r"^[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+)$")
_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$", re.IGNORECASE)


def check(walk: Check, node: Node, value: Any, path: Path) -> None:
    """Reports to ``walk`` every limit of ``node`` that ``value`` (of the right type) breaks."""
    if value is None:
        return
    if node.enum is not None and value not in node.enum:
        allowed = ", ".join(f'"{item}"' if isinstance(item, str) else str(item) for item in node.enum)
        _say(walk, path, "FieldValueNotSupported", f"Unsupported value: {_show(value)}: supported values: {allowed}")
    if isinstance(value, str):
        _string(walk, node, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(walk, node, value, path)
    elif isinstance(value, list):
        _size(walk, path, len(value), node.min_items, node.max_items, "items")
    elif isinstance(value, dict):
        _size(walk, path, len(value), node.min_properties, node.max_properties, "properties")
    for keyword, branches in node.one_of:
        _junction(walk, keyword, branches, value, path)


def _say(walk: Check, path: Path, reason: str, detail: str) -> None:
    walk.error(path, reason, detail)


def _show(value: Any) -> str:
    from appliance.embedded.apiserver.schema.check import show_value

    return show_value(value)


def _path(path: Path) -> str:
    from appliance.embedded.apiserver.schema.check import show_path

    return show_path(path)


def _body(walk: Check, path: Path, value: Any, claim: str) -> None:
    _say(walk, path, "FieldValueInvalid", f"Invalid value: {_show(value)}: {_path(path)} in body {claim}")


def _string(walk: Check, node: Node, value: str, path: Path) -> None:
    if node.max_length is not None and len(value) > node.max_length:
        _say(walk, path, "FieldValueTooLong", f"Too long: may not be more than {node.max_length} bytes")
    if node.min_length is not None and len(value) < node.min_length:
        _body(walk, path, value, f"should be at least {node.min_length} chars long")
    if node.pattern is not None and not node.pattern.search(value):
        _body(walk, path, value, f"should match '{node.pattern_text}'")
    if node.format is not None and not well_formed(node.format, value):
        where = _path(path)
        detail = f'Invalid value: {_show(value)}: {where} in body must be of type {node.format}: "{value}"'
        _say(walk, path, "FieldValueTypeInvalid", detail)


def _number(walk: Check, node: Node, value: float, path: Path) -> None:
    if node.format == "quantity":
        return
    low, high = node.minimum, node.maximum
    if low is not None and (value < low or (node.exclusive_minimum and value == low)):
        word = "greater than" if node.exclusive_minimum else "greater than or equal to"
        _body(walk, path, value, f"should be {word} {low:g}")
    if high is not None and (value > high or (node.exclusive_maximum and value == high)):
        word = "less than" if node.exclusive_maximum else "less than or equal to"
        _body(walk, path, value, f"should be {word} {high:g}")
    bits = {"int32": 31, "int64": 63}.get(node.format or "")
    if bits is not None and not -(1 << bits) <= value < 1 << bits:
        _body(walk, path, value, f"must be of type {node.format}")
    if node.multiple_of and value % node.multiple_of:
        _body(walk, path, value, f"should be a multiple of {node.multiple_of:g}")


def _size(walk: Check, path: Path, size: int, low: int | None, high: int | None, what: str) -> None:
    if high is not None and size > high:
        _say(walk, path, "FieldValueTooMany", f"Too many: {size}: must have at most {high} {what}")
    if low is not None and size < low:
        _body(walk, path, size, f"should have at least {low} {what}")


def _junction(walk: Check, keyword: str, branches: tuple[Node, ...], value: Any, path: Path) -> None:
    from appliance.embedded.apiserver.schema.check import Check

    def holds(branch: Node) -> bool:
        trial = Check()
        trial.walk(branch, value, None, path)
        return not trial.errors

    count = sum(holds(branch) for branch in branches)
    good = {"anyOf": count > 0, "oneOf": count == 1, "allOf": count == len(branches), "not": count == 0}[keyword]
    if not good:
        phrase = {"anyOf": "must validate at least one schema (anyOf)",
                  "oneOf": "must validate one and only one schema (oneOf)",
                  "allOf": "must validate all the schemas (allOf)",
                  "not": "must not validate the schema (not)"}[keyword]  # fmt: skip
        _body(walk, path, value, phrase)


def well_formed(fmt: str, value: str) -> bool:
    """Whether ``value`` has the named format; unknown formats hold for everything, as in Kubernetes."""
    if fmt in ("date-time", "micro-time"):
        return _is_date_time(value)
    if fmt == "quantity":
        return _QUANTITY.match(value) is not None
    if fmt == "duration":
        return _DURATION.match(value) is not None
    if fmt == "byte":
        return _is_base64(value)
    return True


def _is_date_time(value: str) -> bool:
    if not _DATE_TIME.match(value):
        return False
    try:
        datetime.fromisoformat(value[:19])
    except ValueError:
        return False
    return True


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
