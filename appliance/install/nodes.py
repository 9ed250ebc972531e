"""Manifests with holes: plain objects in which some places are filled from the values of an installation.

The same description has two readers: ``resolve`` here, which fills the holes for ``appliance install``, and
``templates``, which writes them as a Helm chart. So both say the same, and a test proves it with Helm itself.

A ``Value`` stands for a scalar or a whole mapping or list; ``Text`` for a string with values inside; ``When`` for a
place that is there only under a condition; ``Each`` for one item per element of a list. ``When`` and ``Each`` stand
where an entry of a mapping, an item of a list or a document may stand. What is true is as in Go's templates, and as in
Python: everything but empty strings, lists and mappings, zero and false.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

Json = dict[str, Any]


@dataclass(frozen=True)
class Value:
    """The value at ``path`` (``managers.replicas``), through ``form``; that at ``fallback`` where it is empty."""

    path: str
    form: str = ""
    """``host``: a domain without its port; ``base64``: as Secrets hold it."""
    fallback: str = ""
    structured: bool = False
    """A mapping or a list."""


@dataclass(frozen=True)
class Item:
    """The element that the surrounding ``Each`` is at."""


@dataclass(frozen=True)
class Text:
    """A string put together of words and values."""

    parts: tuple[str | Value | Item, ...]


@dataclass(frozen=True)
class Condition:
    """Whether the value at ``path`` is filled, or a number above ``above``."""

    path: str
    above: int | None = None


@dataclass(frozen=True)
class When:
    """``then`` if the condition holds, else ``otherwise`` if there is one, else nothing."""

    condition: Condition
    then: Any
    otherwise: Any = None


@dataclass(frozen=True)
class Each:
    """``body`` once for every element of the list at ``path``."""

    path: str
    body: Any


FORMS: Final = ("", "host", "base64")
_MISSING: Final = object()


def text(*parts: str | Value | Item) -> Text:
    """``Text`` of its parts."""
    return Text(parts)


def filled(path: str, then: Any, otherwise: Any = None) -> When:
    """``then`` where the value at ``path`` is filled."""
    return When(Condition(path), then, otherwise)


def resolve(documents: list[Any], values: Mapping[str, Any]) -> list[Json]:
    """The documents with every hole filled. Raises ``KeyError`` for a path that the values do not have."""
    return list(_items(documents, values, None))


def _items(items: list[Any], values: Mapping[str, Any], element: Any) -> Iterator[Any]:
    for item in items:
        found = _choose(item, values)
        if isinstance(found, Each):
            for one in look_up(values, found.path):
                yield from _items([found.body], values, one)
        elif found is not _MISSING:
            yield _fill(found, values, element)


def _choose(node: Any, values: Mapping[str, Any]) -> Any:
    while isinstance(node, When):
        node = node.then if _holds(node.condition, values) else node.otherwise
        if node is None:
            return _MISSING
    return node


def _holds(condition: Condition, values: Mapping[str, Any]) -> bool:
    found = look_up(values, condition.path)
    return bool(found > condition.above) if condition.above is not None else bool(found)


def _fill(node: Any, values: Mapping[str, Any], element: Any) -> Any:
    if isinstance(node, dict):
        chosen = {key: _choose(entry, values) for key, entry in node.items()}
        return {key: _fill(entry, values, element) for key, entry in chosen.items() if entry is not _MISSING}
    if isinstance(node, list):
        return list(_items(node, values, element))
    if isinstance(node, Value):
        return _value(node, values)
    if isinstance(node, Item):
        return element
    if isinstance(node, Text):
        return "".join(str(_fill(part, values, element)) for part in node.parts)
    return node


def _value(node: Value, values: Mapping[str, Any]) -> Any:
    found = look_up(values, node.path)
    if node.fallback and not found:
        found = look_up(values, node.fallback)
    if node.form == "host":
        return re.sub(":[0-9]+$", "", found)
    return base64.b64encode(found.encode()).decode() if node.form == "base64" else found


def look_up(values: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path."""
    found: Any = values
    for part in path.split("."):
        found = found[part]
    return found
