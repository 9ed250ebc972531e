"""The JSONPath subset of printer columns: ``.a.b``, ``['key']``, ``[0]``, ``[*]``, ``[?(@.x=="y")]``; no ``..``.

Kubernetes prints the first value for scalars; several values are joined by commas by the caller.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

_STEP = re.compile(
    r"\.(?P<name>(?:[^.\[\]\\]|\\.)+)|\[(?P<index>-?\d+)\]|(?P<star>\[\*\]|\.\*)"
    r"|\[(?P<quote>['\"])(?P<key>.*?)(?P=quote)\]"
    r"|\[\?\(\s*@(?P<left>(?:\.[\w-]+)+)\s*(?P<op>==|!=)\s*(?P<q2>['\"]?)(?P<right>[^'\")]*)(?P=q2)\s*\)\]"
)


class JsonPathError(Exception):
    """A path outside the subset."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    """A parsed path: steps are ("key", name), ("index", n), ("all",) or ("filter", keys, equal, value)."""

    steps: tuple[tuple[Any, ...], ...]

    @classmethod
    def parse(cls, text: str) -> JsonPath:
        """Parses a column's ``jsonPath``; JsonPathError when it is outside the subset."""
        return _parse(text)

    def find(self, value: Any) -> list[Any]:
        """Every value the path leads to; missing parts give nothing."""
        found = [value]
        for step in self.steps:
            found = [inner for item in found for inner in _apply(step, item)]
        return found


@lru_cache(maxsize=1024)
def _parse(text: str) -> JsonPath:
    path = text.strip()
    if path.startswith("{") and path.endswith("}"):
        path = path[1:-1]
    path = path.removeprefix("$")
    if path == ".":
        return JsonPath(())
    steps = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            raise JsonPathError(f"is an invalid or unsupported json path at {path[at:]!r}")
        steps.append(_step(match))
        at = match.end()
    if not steps:
        raise JsonPathError("is an empty json path")
    return JsonPath(tuple(steps))


def _step(match: re.Match[str]) -> tuple[Any, ...]:
    if match["name"] is not None:
        return ("key", re.sub(r"\\(.)", r"\1", match["name"]))
    if match["index"] is not None:
        return ("index", int(match["index"]))
    if match["star"] is not None:
        return ("all",)
    if match["key"] is not None:
        return ("key", re.sub(r"\\(.)", r"\1", match["key"]))
    return ("filter", tuple(match["left"].strip(".").split(".")), match["op"] == "==", match["right"].strip())


def _apply(step: tuple[Any, ...], value: Any) -> list[Any]:
    match step:
        case ("key", name):
            return [value[name]] if isinstance(value, dict) and value.get(name) is not None else []
        case ("index", index):
            return [value[index]] if isinstance(value, list) and -len(value) <= index < len(value) else []
        case ("all",):
            return list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list) else []
        case ("filter", keys, equal, wanted):
            items = value if isinstance(value, list) else []
            return [item for item in items if (_lookup(item, keys) == wanted) is equal]
        case _:
            raise AssertionError(step)


def _lookup(item: Any, keys: tuple[str, ...]) -> str | None:
    for key in keys:
        item = item.get(key) if isinstance(item, dict) else None
    if item is None:
        return None
    return ("true" if item else "false") if isinstance(item, bool) else str(item)
