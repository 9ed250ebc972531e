"""The second reader of manifests with holes: writes them as the text of Helm templates.

Block style YAML, one key a line, the way people write it. Scalars go through ``toJson``, whose output is YAML too, so
that a value can never break out of its place; mappings and lists go through ``toYaml``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from appliance.install.nodes import Condition, Each, Item, Text, Value, When

_PLAIN = re.compile(r"[A-Za-z/][-A-Za-z0-9_./]*")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def template(documents: list[Any]) -> str:
    """The text of one template file."""
    lines: list[str] = []
    for document in documents:
        lines += _document(document)
    return "\n".join(lines) + "\n"


def _document(node: Any) -> Iterator[str]:
    if isinstance(node, When | Each):
        yield from _wrapped(node, _document)
    else:
        yield "---"
        yield from _mapping(node, 0)


def _wrapped(node: When | Each, inner: Any) -> Iterator[str]:
    """The lines of what is conditional or repeated, between its two actions."""
    if isinstance(node, Each):
        yield f"{{{{- range $.Values.{node.path} }}}}"
        yield from inner(node.body)
    else:
        yield f"{{{{- if {_test(node.condition)} }}}}"
        yield from inner(node.then)
        if node.otherwise is not None:
            yield "{{- else }}"
            yield from inner(node.otherwise)
    yield "{{- end }}"


def _test(condition: Condition) -> str:
    path = f"$.Values.{condition.path}"
    return path if condition.above is None else f"gt (int {path}) {condition.above}"


def _mapping(node: dict[str, Any], indent: int) -> Iterator[str]:
    for key, entry in node.items():
        yield from _entry(_string(key), entry, indent)


def _entry(key: str, node: Any, indent: int) -> Iterator[str]:
    space = " " * indent
    if isinstance(node, When):
        yield from _wrapped(node, lambda inner: _entry(key, inner, indent))
    elif isinstance(node, dict) and node:
        yield f"{space}{key}:"
        yield from _mapping(node, indent + 2)
    elif isinstance(node, list) and node:
        if all(isinstance(item, When) for item in node):
            raise ValueError(f"{key}: a list needs an item that is always there, or a condition around it")
        yield f"{space}{key}:"
        yield from _sequence(node, indent + 2)
    elif isinstance(node, Value) and node.structured:
        yield f"{space}{key}: {{{{- toYaml {_expression(node)} | nindent {indent + 2} }}}}"
    else:
        yield f"{space}{key}: {_scalar(node)}"


def _sequence(node: list[Any], indent: int) -> Iterator[str]:
    for item in node:
        yield from _item(item, indent)


def _item(node: Any, indent: int) -> Iterator[str]:
    space = " " * indent
    if isinstance(node, When | Each):
        yield from _wrapped(node, lambda inner: _item(inner, indent))
    elif isinstance(node, dict) and node:
        lines = list(_mapping(node, indent + 2))
        if lines[0].startswith("{{-"):
            raise ValueError(f"the first entry of an item of a list has to be unconditional: {list(node)}")
        yield f"{space}- {lines[0].lstrip()}"
        yield from lines[1:]
    else:
        yield f"{space}- {_scalar(node)}"


def _scalar(node: Any) -> str:
    if isinstance(node, Value | Item):
        return f"{{{{ {_expression(node)} | toJson }}}}"
    if isinstance(node, Text):
        words = "".join(part.replace("%", "%%") if isinstance(part, str) else "%s" for part in node.parts)
        values = [_expression(part) for part in node.parts if not isinstance(part, str)]
        return f"{{{{ printf {json.dumps(words)} {' '.join(values)} | toJson }}}}"
    if isinstance(node, str):
        return _string(node)
    return json.dumps(node)


def _expression(node: Value | Item) -> str:
    if isinstance(node, Item):
        return "."
    path = f"$.Values.{node.path}"
    if node.fallback:
        path = f"({path} | default $.Values.{node.fallback})"
    if node.form == "host":
        return f'(regexReplaceAll ":[0-9]+$" {path} "")'
    return f"({path} | b64enc)" if node.form == "base64" else path


def _string(words: str) -> str:
    if _PLAIN.fullmatch(words) and words.lower() not in _WORDS:
        return words
    return json.dumps(words, ensure_ascii=False).replace("{{", '{{ "{{" }}')
