"""The compiled form of a schema: a tree of :class:`Node`, the same for core types and for CRDs.

Compiling once moves every look-up that does not depend on the object out of the request. ``Node`` is data;
``check.py`` walks it. Core types refer to each other in circles, so a node is filled after it is made.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from appliance.embedded.apiserver.schema.cel import Rule


class _Unset:
    """The default of a field that has none (None is a legal default)."""


UNSET = _Unset()


@dataclass(slots=True, eq=False)
class Node:
    """One schema position. Attributes follow the OpenAPI words; limits are None when absent."""

    type: str | None = None
    properties: dict[str, Node] = field(default_factory=dict)
    additional: Node | None = None
    items: Node | None = None
    required: tuple[str, ...] = ()
    defaulted: tuple[str, ...] = ()
    """Names of properties that carry a default, or contain one and are objects with their own default."""
    default: Any = UNSET
    preserve: bool = False
    """Unknown fields are kept (``x-kubernetes-preserve-unknown-fields``)."""
    nullable: bool = False
    int_or_string: bool = False
    embedded: bool = False
    enum: tuple[Any, ...] | None = None
    format: str | None = None
    pattern: re.Pattern[str] | None = None
    pattern_text: str = ""
    """The pattern as the schema has it, for messages."""
    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    multiple_of: float | None = None
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    min_properties: int | None = None
    max_properties: int | None = None
    list_type: str | None = None
    """``map``, ``set`` or ``atomic``."""
    list_keys: tuple[str, ...] = ()
    map_atomic: bool = False
    merge_key: str | None = None
    """Strategic merge: key of a merged list; "" for a list of primitives that is merged."""
    retain_keys: bool = False
    rules: tuple[Rule, ...] = ()
    ruled: bool = False
    """Whether there are rules here or below."""
    limits: bool = False
    """Whether any of enum, format, pattern or the numeric limits is set: lets the walk skip scalars."""
    one_of: tuple[tuple[str, tuple[Node, ...]], ...] = ()
    """``(keyword, branches)`` of anyOf, oneOf, allOf and not."""
    core: bool = False
    """A type of the core API: null means absent, wrong types are decoding errors."""
    name: str | None = None
    """Core type name, for OpenAPI references."""

    def seal(self) -> None:
        """Computes the derived attributes; called once everything else is set."""
        self.defaulted = tuple(k for k, n in self.properties.items() if n.default is not UNSET)
        checks = (self.enum, self.format, self.pattern, self.minimum, self.maximum, self.multiple_of)
        sizes = (self.min_length, self.max_length, self.min_items, self.max_items, self.min_properties)
        below = (*self.properties.values(), self.items, self.additional)
        self.ruled = bool(self.rules) or any(node is not None and node.ruled for node in below)
        self.limits = any(v is not None for v in (*checks, *sizes, self.max_properties)) or bool(self.one_of)
