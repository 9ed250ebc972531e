"""The argument parser of every command: it answers an unknown word with the nearest known one.

A command's help begins with the line that the list of commands has for it. An error says what is wrong; the usage goes
before it where that is a few lines, and not where it would hide the error.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from typing import Any, NoReturn

SHORT_USAGE = 4
"""Lines of usage that an error may be preceded by."""


class Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """The commands of a parser; what the list says of one is what its own help begins with."""

    def add_parser(self, name: str, **settings: Any) -> Any:
        """Add the command ``name``; ``settings`` are those of argparse."""
        said = settings.get("help", "")
        settings.setdefault("description", f"{said[:1].upper()}{said[1:]}." if said else None)
        return super().add_parser(name, **settings)


class Parser(argparse.ArgumentParser):
    """An argument parser that answers an unknown flag with the nearest known one."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.register("action", "parsers", Commands)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2, the message on standard error."""
        usage = self.format_usage()
        short = usage if usage.count("\n") <= SHORT_USAGE else ""
        self.exit(2, f"{short}{self.prog}: error: {message}{'' if short else f' ({self.prog} --help lists all)'}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, refusing what is unknown by name: flags first, for a flag's value would be taken for a command."""
        flags = set(self._known_words())
        for word in sys.argv[1:] if args is None else args:
            if word.startswith("--") and word.split("=", 1)[0] not in flags:
                self.error(self._unknown(word))
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return known

    def _unknown(self, word: str) -> str:
        flag = word.split("=", 1)[0]
        near = difflib.get_close_matches(flag, self._known_words(), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else "; see appliance --help"
        return f"unknown argument {flag}{hint}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = difflib.get_close_matches(str(value), [str(choice) for choice in action.choices], n=1, cutoff=0.6)
            hint = f"; did you mean {near[0]}?" if near else f"; expected one of {', '.join(map(str, action.choices))}"
            raise argparse.ArgumentError(action, f"unknown value {value!r}{hint}")

    def _known_words(self) -> list[str]:
        words = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, child in action.choices.items():
                    words += [name, *child._known_words()]
        return words


def count(text: str) -> int:
    """A whole number; the type of ``--pool`` and other flags that count."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number (0 or more)")
    return int(text)
