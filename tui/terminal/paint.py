"""Cells of the emulator as lines of the deck."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any

from rich.cells import cell_len
from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

MARK = "?"
"""In place of what cannot be shown in its columns: controls, and what is wider here than there."""


@lru_cache(maxsize=4096)
def style_of(style: Any) -> Style:
    """The look of an emulated style; what it leaves open is that of the widget."""
    return Style(
        color=_color(style.fg),
        bgcolor=_color(style.bg),
        bold=bool(style.bold),
        dim=bool(style.dim),
        italic=bool(style.italic),
        underline=bool(style.underline),
        blink=bool(style.blink),
        reverse=bool(style.reverse),
        conceal=bool(style.conceal),
        strike=bool(style.strike),
        overline=bool(style.overline),
    )


def _color(color: Any) -> Color | None:
    if color is None or color.mode == "default":
        return None
    return Color.from_ansi(color.value) if color.mode == "indexed" else Color.from_rgb(*color.value)


def line(cells: Sequence[tuple[Any, str]], width: int, base: Style, *, cursor: int = -1, plain: bool = False) -> Strip:
    """One line. ``cursor``: its column, or -1; ``plain``: nothing beyond ASCII."""
    shown = [
        (style_of(style) + REVERSED if column == cursor else style_of(style), text)
        for column, (style, text) in enumerate(_texts(cells, plain))
    ]
    pieces = [
        Segment("".join(text for _, text in run), base + style) for style, run in groupby(shown, key=lambda one: one[0])
    ]
    return Strip(pieces, len(cells)).adjust_cell_length(width, base)


REVERSED = Style(reverse=True)


def _texts(cells: Sequence[tuple[Any, str]], plain: bool) -> list[tuple[Any, str]]:
    """The cells with their texts made safe: each takes the columns that it has in the emulated terminal."""
    made = []
    for column, (style, text) in enumerate(cells):
        if not text:
            made.append((style, ""))
            continue
        wide = column + 1 < len(cells) and not cells[column + 1][1]
        made.append((style, _safe(text, 2 if wide else 1, plain)))
    return made


@lru_cache(maxsize=4096)
def _safe(text: str, columns: int, plain: bool) -> str:
    if text.isascii():
        return text if text.isprintable() else MARK
    fits = cell_len(text) == columns and all(one.isprintable() for one in text)
    return MARK * columns if plain or not fits else text
