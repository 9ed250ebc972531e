"""One walk over an object that prunes unknown fields, fills defaults and collects every wrong field.

The three belong together because each decides what the others see (a default is validated, a pruned field is not).
The object is changed in place. A subtree that *is* the old object's subtree (same Python object, as the merge patch
leaves untouched parts) was checked when it was written and is skipped: this is what keeps a claim's patch cheap.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from appliance.embedded.apiserver.schema import limits
from appliance.embedded.apiserver.schema.node import Node
from appliance.embedded.apiserver.status import FieldError

type_names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
Path = tuple[Any, str | int] | None
"""A path as a linked list (parent, key): it is formatted only when there is something to say."""
MAX_ERRORS = 100
_BLOCKING = frozenset(
    ("FieldValueNotSupported", "FieldValueRequired", "FieldValueTooLong", "FieldValueTooMany", "FieldValueTypeInvalid")
)
"""Mistakes after which rules are not evaluated: they would fail on what the schema already refused."""
_UNCHECKED = (
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation"
)


def show_path(path: Path) -> str:
    """``spec.containers[0].name`` for a linked path."""
    keys: list[str | int] = []
    while path is not None:
        path, key = path
        keys.append(key)
    text = ""
    for key in reversed(keys):
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def show_value(value: Any) -> str:
    """A value as it appears in messages: JSON, cut at 200 characters."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + "…"


class Check:
    """The findings of one walk.

    ``errors`` (refusals), ``broken`` (CEL rules that do not hold), ``unknown`` (pruned), ``mistyped`` (core decoding
    errors).
    """

    __slots__ = ("broken", "errors", "mistyped", "required", "unknown")

    def __init__(self) -> None:
        self.errors: list[FieldError] = []
        self.broken: list[FieldError] = []
        self.unknown: list[str] = []
        self.mistyped: list[str] = []
        self.required = True
        """Whether missing required fields are errors (not in core statuses, where absence is the zero value)."""

    def error(self, path: Path, reason: str, detail: str) -> None:
        """Records a refusal; beyond MAX_ERRORS they are dropped."""
        if len(self.errors) < MAX_ERRORS:
            self.errors.append(FieldError(show_path(path), reason, detail))

    def rules(self, node: Node, value: Any, old: Any, path: Path) -> None:
        """Evaluates the node's own CEL rules."""
        for rule in node.rules:
            problem = rule.check(value, old)
            if problem is not None and len(self.broken) < MAX_ERRORS:
                self.broken.append(FieldError(show_path(path), rule.reason, rule.detail(value, problem)))

    def verdict(self, ruled: bool) -> list[FieldError]:
        """All refusals; where the schema has rules (``ruled``) but they could not be trusted, a remark instead."""
        if ruled and any(error.reason in _BLOCKING for error in self.errors):
            return [*self.errors, FieldError("<nil>", "FieldValueInvalid", _UNCHECKED)]
        return [*self.errors, *self.broken]

    def walk(self, node: Node, value: Any, old: Any, path: Path) -> None:
        """Checks ``value`` (in place) against ``node``; ``old`` is its former value or None."""
        if value is old and value is not None:
            return
        if not self._typed(node, value, path):
            return
        if node.limits:
            limits.check(self, node, value, path)
        if isinstance(value, dict):
            self._object(node, value, old if isinstance(old, dict) else {}, path)
        elif isinstance(value, list):
            self._array(node, value, old if isinstance(old, list) else [], path)
        if node.rules:
            self.rules(node, value, old, path)

    def _typed(self, node: Node, value: Any, path: Path) -> bool:
        kind = type(value)
        want = node.type
        if value is None:
            good = node.nullable or (want is None and not node.int_or_string)
        elif want is None:
            good = not node.int_or_string or kind is int or kind is str
        else:
            name = type_names[kind]
            good = name == want or (want == "number" and name == "integer")
            good = good or (want == "integer" and kind is float and value == int(value))
        if not good:
            self._wrong_type(node, value, path)
        return good

    def _wrong_type(self, node: Node, value: Any, path: Path) -> None:
        got = "null" if value is None else type_names[type(value)]
        want = node.type or "integer or string"
        if node.core:
            self.mistyped.append(f"json: cannot unmarshal {got} into field {show_path(path)} of type {want}")
            return
        where = show_path(path)
        detail = f'Invalid value: "{got}": {where} in body must be of type {want}: "{got}"'
        self.error(path, "FieldValueTypeInvalid", detail)

    def _object(self, node: Node, value: dict[str, Any], old: dict[str, Any], path: Path) -> None:
        props = node.properties
        drop: list[str] = []
        for key, item in value.items():
            child = props.get(key, node.additional)
            if child is None:
                if not node.preserve:
                    drop.append(key)
            elif item is None and not child.nullable and (child.core or child.default is not None):
                drop.append(key)
            else:
                self.walk(child, item, old.get(key), (path, key))
        for key in drop:
            if value.pop(key) is not None or key not in props:
                self.unknown.append(show_path((path, key)))
        for key in node.defaulted:
            if key not in value:
                value[key] = copy.deepcopy(props[key].default)
                self.walk(props[key], value[key], None, (path, key))
        for key in node.required:
            if self.required and key not in value:
                self.error((path, key), "FieldValueRequired", "Required value")

    def _array(self, node: Node, value: list[Any], old: list[Any], path: Path) -> None:
        child = node.items
        if child is None:
            return
        former = {} if not old else self._by_key(node, old)
        seen: set[str] = set()
        for index, item in enumerate(value):
            key = self._item_key(node, item)
            if key is not None:
                if key in seen:
                    self.error((path, index), "FieldValueDuplicate", f"Duplicate value: {key}")
                seen.add(key)
            self.walk(child, item, former.get(key) if key is not None else None, (path, index))

    def _by_key(self, node: Node, items: list[Any]) -> dict[str | None, Any]:
        return {self._item_key(node, item): item for item in items}

    @staticmethod
    def _item_key(node: Node, item: Any) -> str | None:
        """What makes a list item unique (as JSON), or None in a list that allows equal items."""
        if node.list_type == "set":
            return json.dumps(item, sort_keys=True)
        if node.list_keys and isinstance(item, dict):
            return json.dumps({k: item.get(k, _key_default(node, k)) for k in node.list_keys}, separators=(",", ":"))
        return None


def _key_default(node: Node, key: str) -> Any:
    prop = node.items.properties.get(key) if node.items else None
    return prop.default if prop is not None and isinstance(prop.default, str | int) else None
