"""Two states of one object, compared as a person would: without what the server counts and notes by itself."""

from __future__ import annotations

import difflib
from typing import Any

from appliance.install.command import as_yaml

_NOISE = ("managedFields", "resourceVersion", "uid", "generation", "creationTimestamp")


def compared(before: dict[str, Any] | None, after: dict[str, Any], name: str) -> list[str]:
    """The unified diff of two states of an object; empty when they say the same."""
    old = [] if before is None else _shown(before)
    lines = difflib.unified_diff(old, _shown(after), f"cluster: {name}", f"rendered: {name}", lineterm="")
    made = list(lines)
    if not made and before is not None and before.get("data") != after.get("data"):
        return [f"--- cluster: {name}", f"+++ rendered: {name}", " its data changes, which is not shown"]
    return made


def _shown(document: dict[str, Any]) -> list[str]:
    meta = {key: value for key, value in document["metadata"].items() if key not in _NOISE}
    shown = {**document, "metadata": meta}
    shown.pop("status", None)
    if document.get("kind") == "Secret" and "data" in document:
        shown["data"] = dict.fromkeys(document["data"], "(not shown)")
    return as_yaml([_sorted(shown)]).splitlines()


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
