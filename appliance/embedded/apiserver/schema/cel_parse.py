"""The CEL subset's grammar: a tokenizer and a precedence-climbing parser to tuples.

An expression is ``(op, operands…)``; names that are not bound by a macro are collected, so that the caller can refuse
unknown ones.
"""

from __future__ import annotations

import ast
import re
from typing import Any

Expr = tuple[Any, ...]
_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.\d+(?:[eE][+-]?\d+)?|0x[0-9a-fA-F]+|\d+)u?"
    r"|(?P<string>r?(?:'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"))"
    r"|(?P<name>[A-Za-z_]\w*)|(?P<op>&&|\|\||==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}]))"
)
_BINARY = {
    "||": 1, "&&": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3, "in": 3,
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5,
}  # fmt: skip
MACROS = frozenset({"all", "exists", "exists_one", "filter", "map"})
METHODS = {"size": 0, "startsWith": 1, "endsWith": 1, "contains": 1, "matches": 1}
FUNCTIONS = {"size": 1, "int": 1, "string": 1, "double": 1}
MAX_DEPTH = 60


class RuleError(Exception):
    """A rule outside the subset; the message names the word or position."""


def parse(text: str) -> tuple[Expr, set[str]]:
    """The expression and its free names; RuleError when it cannot be read."""
    parser = _Parser(text)
    expr = parser.ternary()
    parser.expect("")
    return expr, parser.names


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.at = 0
        self.depth = 0
        self.names: set[str] = set()
        self.bound: list[str] = []

    def peek(self) -> str:
        return self.tokens[self.at][1]

    def take(self) -> tuple[str, str]:
        token = self.tokens[self.at]
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, op: str) -> bool:
        if self.tokens[self.at] == ("op", op):
            self.take()
            return True
        return False

    def expect(self, op: str) -> None:
        kind, text = self.take()
        if text != op or kind not in ("op", "end"):
            raise RuleError(f"expected {op or 'the end'!r}, found {text or 'the end'!r}")

    def ternary(self) -> Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise RuleError("nested too deeply")
        condition = self.binary(1)
        if self.accept("?"):
            then = self.ternary()
            self.expect(":")
            condition = ("?", condition, then, self.ternary())
        self.depth -= 1
        return condition

    def binary(self, level: int) -> Expr:
        left = self.unary()
        while (rank := _BINARY.get(self.peek(), 0)) >= level and self.tokens[self.at][0] != "string":
            op = self.take()[1]
            left = (op, left, self.binary(rank + 1))
        return left

    def unary(self) -> Expr:
        if self.accept("!"):
            return ("not", self.unary())
        if self.accept("-"):
            return ("neg", self.unary())
        return self.member(self.primary())

    def member(self, left: Expr) -> Expr:
        while True:
            if self.accept("."):
                left = self.selection(left)
            elif self.accept("["):
                left = ("index", left, self.ternary())
                self.expect("]")
            else:
                return left

    def selection(self, left: Expr) -> Expr:
        kind, name = self.take()
        if kind != "name":
            raise RuleError(f"expected a field name, found {name!r}")
        if not self.accept("("):
            return ("field", left, _unescape(name))
        if name in MACROS:
            return self.macro(left, name)
        arguments = self.arguments()
        if METHODS.get(name) != len(arguments):
            raise RuleError(f"function {name!r} is not supported")
        return ("method", name, left, *arguments)

    def macro(self, left: Expr, name: str) -> Expr:
        kind, variable = self.take()
        if kind != "name":
            raise RuleError(f"{name}() needs a variable name first")
        self.expect(",")
        self.bound.append(variable)
        body = self.ternary()
        self.bound.pop()
        self.expect(")")
        return ("macro", name, left, variable, body)

    def arguments(self) -> list[Expr]:
        found: list[Expr] = []
        if self.accept(")"):
            return found
        while True:
            found.append(self.ternary())
            if self.accept(")"):
                return found
            self.expect(",")

    def primary(self) -> Expr:
        kind, text = self.take()
        if kind == "number":
            return ("value", float(text) if "." in text else int(text, 0))
        if kind == "string":
            return ("value", ast.literal_eval(text))
        if kind == "name":
            return self.name(text)
        if text == "(":
            inner = self.ternary()
            self.expect(")")
            return inner
        if text == "[":
            return ("list", *self.items())
        raise RuleError(f"unexpected {text or 'end of the rule'!r}")

    def items(self) -> list[Expr]:
        found: list[Expr] = []
        while not self.accept("]"):
            found.append(self.ternary())
            if not self.accept(","):
                self.expect("]")
                break
        return found

    def name(self, text: str) -> Expr:
        if text in ("true", "false", "null"):
            return ("value", {"true": True, "false": False, "null": None}[text])
        if self.accept("("):
            arguments = self.arguments()
            if text == "has" and len(arguments) == 1 and arguments[0][0] == "field":
                return ("has", arguments[0][1], arguments[0][2])
            if FUNCTIONS.get(text) != len(arguments):
                raise RuleError(f"function {text!r} is not supported")
            return ("call", text, *arguments)
        if text not in self.bound:
            self.names.add(text)
        return ("name", text)


def _unescape(name: str) -> str:
    """Field names that are CEL words or hold special characters are written escaped."""
    for code, char in (("__dash__", "-"), ("__dot__", "."), ("__slash__", "/"), ("__underscores__", "__")):
        name = name.replace(code, char)
    if name.startswith("__") and name.endswith("__") and len(name) > 4:
        return name[2:-2]
    return name


def _tokens(text: str) -> list[tuple[str, str]]:
    found = []
    at = 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise RuleError(f"cannot read {text[at:].strip()[:20]!r}")
        kind = str(match.lastgroup)
        found.append((("op" if match[kind] == "in" else kind), match[kind]))
        at = match.end()
    return [*found, ("end", "")]
