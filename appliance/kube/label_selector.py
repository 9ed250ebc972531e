"""``metav1.LabelSelector`` as objects carry it: ``matchLabels`` and ``matchExpressions``, all of which must hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Matches = Callable[[Mapping[str, str]], bool]


def matches(selector: Mapping[str, Any]) -> Matches:
    """The selector as a predicate over labels. Raises ValueError naming the requirement that is none."""
    equal = {str(key): str(value) for key, value in (selector.get("matchLabels") or {}).items()}
    expressions = [_requirement(item, number) for number, item in enumerate(selector.get("matchExpressions") or [])]

    def holds(labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in equal.items()) and all(one(labels) for one in expressions)

    return holds


def _requirement(item: Mapping[str, Any], number: int) -> Matches:
    key, operator, values = str(item.get("key")), item.get("operator"), set(item.get("values") or ())
    match operator:
        case "In":
            return lambda labels: key in labels and labels[key] in values
        case "NotIn":
            return lambda labels: labels.get(key) not in values
        case "Exists":
            return lambda labels: key in labels
        case "DoesNotExist":
            return lambda labels: key not in labels
    expected = "In, NotIn, Exists or DoesNotExist"
    raise ValueError(f"spec.selector.matchExpressions[{number}].operator: expected {expected}, got {operator!r}")
