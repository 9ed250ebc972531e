"""The help, made from the table of actions, so that it cannot be wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any

from tui.act.table import ACTIONS, GROUPS, Action
from tui.view.cells import Cell, text
from tui.view.columns import Column

KEY, TITLE = 16, 38
"""Widths of keys and of titles."""


def help_lines(
    offered: Callable[[Action], bool],
    columns: Sequence[Column[Any]],
    refused: dict[str, str],
    keys: dict[str, str],
    width: int = 1000,
) -> list[Cell]:
    """Every action offered here by group, then the sort keys of the table. ``keys``: those moved by configuration.

    What does not fit in ``width`` characters stands below, so that nothing has to be scrolled sideways.
    """
    lines: list[Cell] = []
    for group, title in GROUPS.items():
        actions = [action for action in ACTIONS if action.group == group and offered(action)]
        if not actions:
            continue
        lines += [text(f" {title}", "header")]
        for action in actions:
            shown = keys.get(action.name, action.shown_keys) or "-"
            names = ", ".join(f":{word}" for word in (action.name, *action.aliases))
            words = f"{names} {action.argument}".rstrip()
            head: Cell = (
                (f"   {shown:<{KEY}} ", "accent"),
                (f"{action.title:<{TITLE}} ", "warn" if action.danger else ""),
            )
            lines += _beside(head, ((words, "dim"),), 5 + KEY + TITLE, width)
            if action.name in refused:
                lines += wrapped(f"not allowed: {refused[action.name]}", "bad", 4 + KEY, width)
        lines.append(())
    sorts = [column for column in columns if column.letter]
    if sorts:
        lines.append(text(" Sort, again to turn it", "header"))
        lines += [((f"   {f'shift+{one.letter.lower()}':<{KEY}} ", "accent"), (one.title.lower(), "")) for one in sorts]
    return lines


def _beside(head: Cell, tail: Cell, taken: int, width: int) -> list[Cell]:
    """Both in one line, or the second below the first when it would be cut."""
    if taken + sum(len(words) for words, _ in tail) <= width:
        return [(*head, *tail)]
    return [head, *wrapped("".join(words for words, _ in tail), "dim", 4 + KEY, width)]


def wrapped(words: str, tone: str, indent: int, width: int) -> list[Cell]:
    """Words below one another from that column on, broken between words."""
    return [text(" " * indent + line, tone) for line in wrap(words, max(16, width - indent - 1))]
