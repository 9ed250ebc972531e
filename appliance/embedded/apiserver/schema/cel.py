"""CEL rules of CRDs: the subset the sandbox CRDs and most small ones use, parsed once, evaluated per object.

Supported: ``self``, ``oldSelf``, literals, lists, ``.field``, ``[index]``, ``has()``, ``size()``, ``! && || == != <
<= > >= in + - * / %``, ``?:``, string methods (startsWith, endsWith, contains, matches, size), ``int()``, ``string()``,
and the macros all, exists, exists_one, filter, map. Anything else makes the CRD invalid; the word is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from appliance.embedded.apiserver.schema.cel_eval import EvaluationError, evaluate
from appliance.embedded.apiserver.schema.cel_parse import Expr, RuleError, parse

MAX_RULE = 5_000
"""Characters of one rule."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled ``x-kubernetes-validations`` entry."""

    text: str
    expr: Expr
    transition: bool
    """Uses ``oldSelf``: evaluated only when there is an old value."""
    message: str | None
    message_expr: Expr | None
    reason: str

    @classmethod
    def compile(cls, entry: Mapping[str, Any]) -> Rule:
        """Parses an entry; RuleError when it is outside the subset."""
        text = entry.get("rule")
        if not isinstance(text, str) or not text.strip():
            raise RuleError("rule is not specified")
        if len(text) > MAX_RULE:
            raise RuleError(f"longer than {MAX_RULE} characters")
        expr, names = parse(text)
        unknown = names - {"self", "oldSelf"}
        if unknown:
            raise RuleError(f"undeclared reference to '{min(unknown)}'")
        message = entry.get("messageExpression")
        message_expr = parse(message)[0] if message else None
        transition = "oldSelf" in names and not entry.get("optionalOldSelf")
        reason = entry.get("reason") or "FieldValueInvalid"
        return cls(text, expr, transition, entry.get("message"), message_expr, reason)

    def check(self, value: Any, old: Any) -> str | None:
        """The message of a broken rule, or None when it holds or does not apply."""
        if self.transition and old is None:
            return None
        names = {"self": value, "oldSelf": old}
        try:
            verdict = evaluate(self.expr, names)
        except EvaluationError as error:
            return f"rule evaluation error: {error}: {self.text}"
        if verdict is True:
            return None
        return self._message(names)

    def _message(self, names: dict[str, Any]) -> str:
        if self.message_expr is not None:
            try:
                return str(evaluate(self.message_expr, names))
            except EvaluationError:
                pass  # the fixed message is what the real server falls back to
        return self.message or f"failed rule: {self.text}"

    def detail(self, value: Any, message: str) -> str:
        """The text after the field path, as the real server words it for the rule's reason."""
        if self.reason == "FieldValueForbidden":
            return f"Forbidden: {message}"
        if self.reason == "FieldValueRequired":
            return f"Required value: {message}"
        from appliance.embedded.apiserver.schema.check import show_value

        word = "Duplicate value" if self.reason == "FieldValueDuplicate" else "Invalid value"
        return f"{word}: {message}" if isinstance(value, dict | list) else f"{word}: {show_value(value)}: {message}"


__all__ = ["Rule", "RuleError"]
