"""Paints the lines of a table, and keeps them by the object they show, not by the place they stand at.

A line that moved because something was inserted above it is the very same ``Strip`` elsewhere, with all that Textual
has worked out about it: colours for the terminal, cuts, escape codes. A line is made anew only when its words, its
tones, its mark or the columns differ, so a second that passes costs nothing where no age or timer turned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.strip import Strip

from tui.model.change import Key
from tui.view.cells import Cell, Glyphs, clean
from tui.view.columns import Column, Ink, Order
from tui.widgets.tones import Palette

WIDE_GAP = 1
"""Columns between two columns."""
GUTTER = 1
"""Columns left of the first, for marks."""
KEPT = 128
"""Painted lines kept (some 12 KiB each), and as many of those painted before them."""
Layout = tuple[tuple[Column[Any], int], ...]
"""Columns from left to right, each with its width."""


@dataclass(frozen=True)
class Window:
    """What of the lines is visible: ``width`` characters from ``left``, with these columns."""

    layout: Layout
    left: int
    width: int


@dataclass(slots=True)
class Kept:
    """A painted line and all it was made of."""

    row: Any
    second: int
    over: str
    marked: bool
    cells: list[Cell]
    strip: Strip


class Painter:
    """Makes strips for one table in one theme."""

    def __init__(self, palette: Palette, glyphs: Glyphs) -> None:
        self.palette = palette
        self.glyphs = glyphs
        self._window = Window((), 0, 0)
        self._rows: dict[Key, Kept] = {}
        self._older: dict[Key, Kept] = {}
        self._others: dict[object, Strip] = {}

    def look_through(self, window: Window) -> None:
        """Paint for this window from now on."""
        if window != self._window:
            self._window = window
            self._rows, self._older = {}, {}
            self._others.clear()

    def row(self, row: Any, over: str, marked: bool, now: float) -> Strip:
        """The line of a row; ``over`` is what lies over its colours: cursor, mark or nothing."""
        known, second = self._known(row.key), int(now)
        same = known is not None and known.over == over and known.marked == marked
        if known is not None and same and known.row is row and known.second == second:
            return known.strip
        cells = [column.cell(row, Ink(now, self.glyphs, width)) for column, width in self._window.layout]
        if known is not None and same and known.cells == cells:
            known.row, known.second = row, second
            return known.strip
        strip = self._cropped(Strip(self._pieces(cells, over, marked)))
        self._keep(Kept(row, second, over, marked, cells, strip))
        return strip

    def _known(self, key: Key) -> Kept | None:
        found = self._rows.get(key)
        if found is None and (found := self._older.pop(key, None)) is not None:
            self._keep(found)
        return found

    def _keep(self, line: Kept) -> None:
        """Lines that were not asked for since so many others were are forgotten."""
        if len(self._rows) >= KEPT:
            self._rows, self._older = {}, self._rows
        self._rows[line.row.key] = line

    def header(self, order: Order) -> Strip:
        """The titles, with an arrow at the column that sorts."""
        made = self._others.get(order)
        if made is None:
            made = self._others[order] = self._cropped(Strip(self._titles(order)))
        return made

    def notice(self, words: str) -> Strip:
        """A line of dim words instead of rows; the blank line for none."""
        made = self._others.get(words)
        if made is None:
            width = self._window.width
            style = self.palette.style("dim") if words else self.palette.base
            shown = set_cell_size(f" {words}", width) if words else " " * width
            made = self._others[words] = Strip([Segment(shown, style)], width)
        return made

    def _titles(self, order: Order) -> list[Segment]:
        style = self.palette.style("header")
        pieces = [Segment(" ", style)]
        for column, width in self._window.layout:
            arrow = ""
            if column.name == order.column:
                arrow = self.glyphs.down if order.reverse else self.glyphs.up
            title = column.title + arrow if len(column.title + arrow) <= width else column.title[: width - 1] + arrow
            words = title.rjust(width) if column.right else title.ljust(width)
            pieces.append(Segment(words[:width] + " ", style))
        return pieces

    def _pieces(self, cells: Sequence[Cell], over: str, marked: bool) -> list[Segment]:
        gap = Segment(" ", self.palette.style("", over))
        pieces = [Segment(self.glyphs.mark, self.palette.style("warn", over)) if marked else gap]
        for (column, width), cell in zip(self._window.layout, cells, strict=True):
            pieces += self._cell(cell, width, column.right, over)
            pieces.append(gap)
        return pieces

    def _cell(self, cell: Cell, width: int, right: bool, over: str) -> list[Segment]:
        """One cell in exactly ``width`` columns, cut with an ellipsis when it is longer."""
        style = self.palette.style
        cell = tuple((clean(words), tone) for words, tone in cell)
        used = sum(cell_len(words) for words, _ in cell)
        if used > width:
            words = "".join(words for words, _ in cell)
            cut = set_cell_size(words, width - 1) + self.glyphs.ellipsis
            return [Segment(cut, style(cell[0][1], over))]
        pieces = [Segment(words, style(tone, over)) for words, tone in cell]
        if used < width:
            blank = Segment(" " * (width - used), style("", over))
            return [blank, *pieces] if right else [*pieces, blank]
        return pieces

    def _cropped(self, strip: Strip) -> Strip:
        """The visible part, filled up at its right end in the colours of that end."""
        left, width = self._window.left, self._window.width
        if not left and strip.cell_length == width:
            return strip
        style = strip._segments[-1].style if strip._segments else self.palette.base
        return strip.crop_extend(left, left + width, style)
