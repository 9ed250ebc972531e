"""JSON merge patch (RFC 7386), copy-on-write: what the patch does not name is shared with the original.

The sharing is what lets the schema walk skip untouched subtrees.
"""

from __future__ import annotations

from typing import Any

Object = dict[str, Any]


def merge_patch(target: Object, patch: Object) -> Object:
    """``target`` with ``patch`` applied; neither is changed."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            before = merged.get(key)
            merged[key] = merge_patch(before if isinstance(before, dict) else {}, value)
        else:
            merged[key] = value
    return merged
