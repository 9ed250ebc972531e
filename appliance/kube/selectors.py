"""Label selectors, evaluated here: ``a=b,c!=d,e in (x,y),f notin (z),g,!h``.

The server evaluates them for lists and watches; this copy decides whether the answer to a write of ours still belongs
into a cache that was filled with a selector.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

Matches = Callable[[Mapping[str, str]], bool]

_SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s+\((?P<values>[^()]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s=!]+)\s*(?P<operator>==|=|!=)\s*(?P<value>[^\s=!]*)")
_EXISTS = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s=!(),]+)")
_COMMA = re.compile(r",(?![^(]*\))")


def parse(selector: str) -> Matches:
    """The selector as a predicate over labels; the empty one matches everything.

    Raises ValueError naming the term that is not a label requirement.
    """
    if not selector.strip():
        return lambda labels: True
    terms = [_term(text.strip()) for text in _COMMA.split(selector)]
    return lambda labels: all(term(labels) for term in terms)


def _term(text: str) -> Matches:
    if match := _SET.fullmatch(text):
        key, values = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["operator"] == "in":
            return lambda labels: key in labels and labels[key] in values
        return lambda labels: labels.get(key) not in values
    if match := _EQUAL.fullmatch(text):
        key, value = match["key"], match["value"]
        if match["operator"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _EXISTS.fullmatch(text):
        key, wanted = match["key"], not match["not"]
        return lambda labels: (key in labels) is wanted
    raise ValueError(f"label selector: expected terms such as a=b, a!=b, a in (b,c), a or !a, got {text!r}")
