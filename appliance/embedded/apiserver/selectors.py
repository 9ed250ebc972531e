"""Label and field selectors: parsed once per request into predicates over :class:`Record` metadata.

Label syntax is Kubernetes': ``a=b``, ``a==b``, ``a!=b``, ``a in (x,y)``, ``a notin (x)``, ``a``, ``!a``, ``a>3``.
Field selectors compare exact strings with ``=``, ``==`` and ``!=``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from appliance.embedded.apiserver.resources import Resource
from appliance.embedded.apiserver.status import bad_request
from appliance.embedded.apiserver.store.record import Record

Predicate = Callable[[Record], bool]
Labels = Mapping[str, str]
_KEY = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9.]*[A-Za-z0-9])?/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?"
_PATTERN = (
    rf"\s*(?:(?P<no>!)\s*(?P<nokey>{_KEY})|(?P<key>{_KEY})\s*"
    r"(?:(?P<set>in|notin)\s*\((?P<values>[^)]*)\)|(?P<op>==|=|!=|>|<)\s*(?P<value>[-A-Za-z0-9_.]*))?)"
)
_TERM = re.compile(_PATTERN + r"\s*(?:,|$)")
_BEGUN = re.compile(_PATTERN)
"""A term that something else follows."""
_TOKEN = re.compile(r"\s*([-A-Za-z0-9_./]+|==|!=|[=!<>()])")


def label_terms(text: str) -> list[Callable[[Labels], bool]]:
    """One predicate over labels per comma-separated term.

    Raises ApiStatus 400 naming what cannot be read.
    """
    terms = []
    position = 0
    while position < len(text):
        match = _TERM.match(text, position)
        if match is None or match.end() == position:
            raise bad_request(_misread(text, position))
        terms.append(_label_term(match))
        position = match.end()
    return terms


def _misread(text: str, position: int) -> str:
    """What is wrong with the term at ``position``, as the real server words it where it is that precise."""
    begun = _BEGUN.match(text, position)
    if begun is None:
        return f"unable to parse requirement: found {text[position:]!r} in label selector {text!r}"
    found = _TOKEN.match(text, begun.end())
    shown = found[1] if found is not None else ""
    if begun["set"] or begun["op"]:
        return f"found '{shown}', expected: ',' or 'end of string'"
    return f"unable to parse requirement: found '{shown}', expected: in, notin, =, ==, !=, gt, lt"


def _label_term(match: re.Match[str]) -> Callable[[Labels], bool]:
    key = match["key"]
    if match["no"]:
        absent = match["nokey"]
        return lambda labels: absent not in labels
    if match["set"]:
        values = {value.strip() for value in match["values"].split(",")}
        if match["set"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    op, value = match["op"], match["value"]
    if op is None:
        return lambda labels: key in labels
    if op == "!=":
        return lambda labels: labels.get(key) != value
    if op in ("<", ">"):
        return _comparison(key, op, value)
    return lambda labels: labels.get(key) == value


def _comparison(key: str, op: str, text: str) -> Callable[[Labels], bool]:
    if not text.lstrip("-").isdigit():
        raise bad_request(f"for '{op}' the label selector value must be an integer, got {text!r}")
    bound = int(text)

    def compare(labels: Labels) -> bool:
        value = labels.get(key, "")
        return value.lstrip("-").isdigit() and (int(value) > bound if op == ">" else int(value) < bound)

    return compare


def selector(res: Resource, labels: str | None, fields: str | None) -> Predicate | None:
    """The conjunction of both selectors as one predicate; None when everything matches."""
    tests = [_label_test(term) for term in (label_terms(labels) if labels else ())]
    tests += [_field_test(path, equal, value) for path, equal, value in (field_terms(res, fields) if fields else ())]
    if not tests:
        return None
    if len(tests) == 1:
        return tests[0]
    return lambda record: all(test(record) for test in tests)


def _label_test(term: Callable[[Labels], bool]) -> Predicate:
    return lambda record: term(record.labels)


def _field_test(path: str, equal: bool, value: str) -> Predicate:
    if path == "metadata.name":
        return lambda record: (record.name == value) is equal
    if path == "metadata.namespace":
        return lambda record: (record.namespace == value) is equal
    return lambda record: (record.fields.get(path, "") == value) is equal


def field_terms(res: Resource, text: str) -> list[tuple[str, bool, str]]:
    """``(path, must be equal, value)`` per term; ApiStatus 400 for a path this kind cannot be selected by."""
    terms = []
    for term in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"([\w.\[\]/-]+)\s*(==|=|!=)\s*(.*)", term)
        if match is None:
            raise bad_request(f"invalid selector: '{term}'; can't understand '{term}'")
        path = match[1]
        if path not in ("metadata.name", "metadata.namespace", *res.selectable):
            raise bad_request(f"field label not supported: {path}")
        terms.append((path, match[2] != "!=", match[3]))
    return terms


def single_name(res: Resource, fields: str | None) -> str | None:
    """The name when the field selector pins ``metadata.name``: such reads need no scan."""
    for path, equal, value in field_terms(res, fields) if fields else ():
        if path == "metadata.name" and equal:
            return value
    return None
