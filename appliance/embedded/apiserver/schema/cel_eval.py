"""Evaluating parsed CEL over JSON values.

``&&`` and ``||`` follow CEL: an error on one side is forgiven when the other side decides. Types do not mix: comparing
a string with a number is an error, not false (equality is false).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from appliance.embedded.apiserver.schema.cel_parse import Expr

_ORDER = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}


class EvaluationError(Exception):
    """A rule that cannot be evaluated on this object (a missing field, wrong types)."""


def evaluate(expr: Expr, names: Mapping[str, Any]) -> Any:
    """The value of ``expr``; EvaluationError as CEL would."""
    handler = _HANDLERS.get(expr[0])
    if handler is None:
        return _binary(expr, names)
    return handler(expr, names)


def _name(expr: Expr, names: Mapping[str, Any]) -> Any:
    return names[expr[1]]


def _field(expr: Expr, names: Mapping[str, Any]) -> Any:
    target = evaluate(expr[1], names)
    if not isinstance(target, dict) or expr[2] not in target:
        raise EvaluationError(f"no such key: {expr[2]}")
    return target[expr[2]]


def _has(expr: Expr, names: Mapping[str, Any]) -> bool:
    target = evaluate(expr[1], names)
    return isinstance(target, dict) and target.get(expr[2]) is not None


def _index(expr: Expr, names: Mapping[str, Any]) -> Any:
    target, key = evaluate(expr[1], names), evaluate(expr[2], names)
    try:
        if isinstance(target, list) and isinstance(key, int) and key >= 0:
            return target[key]
        if isinstance(target, dict):
            return target[key]
    except LookupError:
        pass
    raise EvaluationError(f"no such key or index: {key}")


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise EvaluationError("no such overload: expected bool")
    return value


def _logic(expr: Expr, names: Mapping[str, Any]) -> bool:
    decisive = expr[0] == "||"
    try:
        left = _truth(evaluate(expr[1], names))
    except EvaluationError:
        if _truth(evaluate(expr[2], names)) is decisive:
            return decisive
        raise
    return left if left is decisive else _truth(evaluate(expr[2], names))


def _ternary(expr: Expr, names: Mapping[str, Any]) -> Any:
    return evaluate(expr[2] if _truth(evaluate(expr[1], names)) else expr[3], names)


def _equal(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return bool(left == right)


def _binary(expr: Expr, names: Mapping[str, Any]) -> Any:
    op, left, right = expr[0], evaluate(expr[1], names), evaluate(expr[2], names)
    if op in ("==", "!="):
        return _equal(left, right) is (op == "==")
    if op == "in":
        if not isinstance(right, dict | list):
            raise EvaluationError("no such overload: in")
        return any(_equal(left, item) for item in right)
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (left, right))
    if op in _ORDER:
        if numbers or (isinstance(left, str) and isinstance(right, str)):
            return _ORDER[op](left, right)
        raise EvaluationError(f"no such overload: {op}")
    return _arithmetic(op, left, right, numbers)


def _arithmetic(op: str, left: Any, right: Any, numbers: bool) -> Any:
    if op == "+" and type(left) is type(right) and isinstance(left, str | list):
        return left + right
    if not numbers:
        raise EvaluationError(f"no such overload: {op}")
    if op in "+-*":
        return {"+": operator.add, "-": operator.sub, "*": operator.mul}[op](left, right)
    if right == 0:
        raise EvaluationError("division by zero")
    if isinstance(left, float) or isinstance(right, float):
        return left / right
    quotient = abs(left) // abs(right) * (1 if (left < 0) is (right < 0) else -1)
    return quotient if op == "/" else left - quotient * right


def _size(value: Any) -> int:
    if not isinstance(value, str | list | dict):
        raise EvaluationError("no such overload: size")
    return len(value)


def _call(expr: Expr, names: Mapping[str, Any]) -> Any:
    value = evaluate(expr[2], names)
    if expr[1] == "size":
        return _size(value)
    try:
        if expr[1] == "string":
            return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
        return int(value) if expr[1] == "int" else float(value)
    except (TypeError, ValueError):
        raise EvaluationError(f"cannot convert to {expr[1]}") from None


def _method(expr: Expr, names: Mapping[str, Any]) -> Any:
    target = evaluate(expr[2], names)
    if expr[1] == "size":
        return _size(target)
    argument = evaluate(expr[3], names)
    if not isinstance(target, str) or not isinstance(argument, str):
        raise EvaluationError(f"no such overload: {expr[1]}")
    tests: dict[str, Callable[[], bool]] = {
        "startsWith": lambda: target.startswith(argument),
        "endsWith": lambda: target.endswith(argument),
        "contains": lambda: argument in target,
        "matches": lambda: re.search(argument, target) is not None,
    }
    try:
        return tests[expr[1]]()
    except re.error as error:
        raise EvaluationError(f"bad pattern: {error}") from None


def _macro(expr: Expr, names: Mapping[str, Any]) -> Any:
    _, macro, target_expr, variable, body = expr
    target = evaluate(target_expr, names)
    if not isinstance(target, list | dict):
        raise EvaluationError(f"no such overload: {macro}")
    results = ((item, evaluate(body, {**names, variable: item})) for item in target)
    if macro == "map":
        return [result for _, result in results]
    if macro == "filter":
        return [item for item, result in results if _truth(result)]
    verdicts = [_truth(result) for _, result in results]
    return {"all": all(verdicts), "exists": any(verdicts), "exists_one": sum(verdicts) == 1}[macro]


def _negate(expr: Expr, names: Mapping[str, Any]) -> Any:
    value = evaluate(expr[1], names)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise EvaluationError("no such overload: -")
    return -value


_HANDLERS: Mapping[str, Callable[[Expr, Mapping[str, Any]], Any]] = {
    "value": lambda expr, _names: expr[1],
    "name": _name,
    "field": _field,
    "has": _has,
    "index": _index,
    "not": lambda expr, names: not _truth(evaluate(expr[1], names)),
    "neg": _negate,
    "&&": _logic,
    "||": _logic,
    "?": _ternary,
    "list": lambda expr, names: [evaluate(item, names) for item in expr[1:]],
    "call": _call,
    "method": _method,
    "macro": _macro,
}
