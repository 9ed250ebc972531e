"""The help, made from the table of actions, so that it cannot be wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tui.act.table import ACTIONS, GROUPS, Action
from tui.view.cells import Cell, text
from tui.view.columns import Column


def help_lines(
    offered: Callable[[Action], bool], columns: Sequence[Column[Any]], refused: dict[str, str], keys: dict[str, str]
) -> list[Cell]:
    """Every action offered here by group, then the sort keys of the table. ``keys``: those moved by configuration."""
    lines: list[Cell] = []
    for group, title in GROUPS.items():
        actions = [action for action in ACTIONS if action.group == group and offered(action)]
        if not actions:
            continue
        lines += [text(f" {title}", "header")]
        for action in actions:
            shown = keys.get(action.name, action.shown_keys) or "-"
            names = ", ".join(f":{word}" for word in (action.name, *action.aliases))
            note = f"   not allowed: {refused[action.name]}" if action.name in refused else ""
            lines.append(
                (
                    (f"   {shown:<16} ", "accent"),
                    (f"{action.title:<34} ", "warn" if action.danger else ""),
                    (f"{names} {action.argument}".rstrip(), "dim"),
                    (note, "bad"),
                )
            )
        lines.append(())
    sorts = [column for column in columns if column.letter]
    if sorts:
        lines.append(text(" Sort, again to turn it", "header"))
        lines += [((f"   {f'shift+{one.letter.lower()}':<16} ", "accent"), (one.title.lower(), "")) for one in sorts]
    return lines
