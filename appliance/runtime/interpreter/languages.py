"""Languages: their names, and the snippets that set and restore environment variables in a running kernel (contract
§3.2, §3.4).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

PYTHON: Final = "python"
JAVASCRIPT: Final = "javascript"
_ALIASES: Final = {"": PYTHON, "python3": PYTHON, "py": PYTHON, "js": "javascript", "ts": "typescript"}

Changes = Mapping[str, str | None]
"""Variable to its new value; None deletes it."""


def normalise(language: str | None) -> str:
    """The canonical name: trimmed, lower case, aliases resolved; nothing means python."""
    name = (language or "").strip().lower()
    return _ALIASES.get(name, name)


@dataclass(frozen=True)
class Language:
    """What the interpreter must know beyond the Jupyter protocol."""

    kernels: tuple[str, ...]
    """Names of kernel specifications that serve it; the first installed one is used."""
    environment: Callable[[Changes], str]
    """Code that applies changes and shows nothing."""
    counts_silent: bool = False
    """Whether the kernel counts silent requests as executions, which clients must not see."""
    late_output: bool = False
    """Whether the kernel may publish what a cell printed or gave after its reply and its idle state, as Deno does: its
    tasks for output, results and replies take turns, and on a busy machine not always in order."""


def get(name: str) -> Language:
    """The language called ``name`` (normalised); an unknown one is its kernel's name and cannot set variables."""
    return _LANGUAGES.get(name) or Language((name,), lambda changes: "")


def _python(changes: Changes) -> str:
    # Expressions only: nothing is bound in the user's namespace.
    sets = {name: value for name, value in changes.items() if value is not None}
    drops = [name for name, value in changes.items() if value is None]
    code = f"__import__('os').environ.update({sets!r})"
    return f"{code}; [__import__('os').environ.pop(n, None) for n in {drops!r}]" if drops else code


def _javascript(changes: Changes) -> str:
    return "".join(
        f"delete process.env[{json.dumps(k)}];" if v is None else f"process.env[{json.dumps(k)}]={json.dumps(v)};"
        for k, v in changes.items()
    )


def _bash(changes: Changes) -> str:
    return "\n".join(f"unset {k}" if v is None else f"export {k}={shlex.quote(v)}" for k, v in changes.items())


def _r(changes: Changes) -> str:
    return "\n".join(
        f"Sys.unsetenv({json.dumps(k)})" if v is None else f"Sys.setenv(`{k}` = {json.dumps(v)})"
        for k, v in changes.items()
    )


def _java(changes: Changes) -> str:
    return "\n".join(
        f"System.clearProperty({json.dumps(k)});"
        if v is None
        else f"System.setProperty({json.dumps(k)}, {json.dumps(v)});"
        for k, v in changes.items()
    )


_LANGUAGES: Final = {
    PYTHON: Language(("python3",), _python),
    JAVASCRIPT: Language(("javascript", "deno"), _javascript, late_output=True),
    "typescript": Language(("javascript", "deno"), _javascript, late_output=True),
    "bash": Language(("bash",), _bash),
    "r": Language(("ir", "r"), _r),
    "java": Language(("java",), _java, counts_silent=True),
}
