"""A table of any number of live rows, painted line by line: only what is visible costs anything.

The widget keeps the rows it was given and asks their columns for cells while painting. The cursor stays on a *key*:
whatever is inserted or removed around it, the line under the eye is still the same object at the same height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.model.change import Key
from tui.view.cells import Cell, Glyphs
from tui.view.columns import Column, Ink, Order, fit
from tui.widgets.tones import COMPONENTS, Palette, scoped

WIDE_GAP = 1
GUTTER = 1
"""Columns left of the first, for marks."""
CACHED = 500
"""Painted lines kept."""


class LiveTable(ScrollView, can_focus=True):
    """Rows under a header; the first line of the widget is always the header."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENTS)
    DEFAULT_CSS = """
    LiveTable { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; overflow-x: auto; }
    """ + scoped("LiveTable")

    class Opened(Message):
        """Enter, or a second click, on a row."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    class HeaderClicked(Message):
        """A click on a column's title."""

        def __init__(self, column: Column[Any]) -> None:
            super().__init__()
            self.column = column

    class Moved(Message):
        """The cursor is on another object."""

    def __init__(self, columns: Sequence[Column[Any]], glyphs: Glyphs, *, empty: str = "") -> None:
        super().__init__()
        self.columns = tuple(columns)
        self.glyphs = glyphs
        self.empty = empty
        self.order = Order()
        self.now = 0.0
        self.wide = False
        self.marked: set[Key] = set()
        self.rows: list[Any] = []
        self._cursor = 0
        self._palette: Palette | None = None
        self._shown: tuple[tuple[object, ...], list[tuple[Any, str]]] = ((), [])
        self._strips: dict[Key, tuple[Any, tuple[object, ...], Strip]] = {}

    # State --------------------------------------------------------------------------------------------------------
    @property
    def cursor_key(self) -> Key | None:
        """The object under the cursor; None in an empty table."""
        return self.rows[self._cursor].key if self._cursor < len(self.rows) else None

    @property
    def chosen(self) -> list[Any]:
        """The marked rows, or the one under the cursor."""
        marked = [row for row in self.rows if row.key in self.marked]
        return marked or self.rows[self._cursor : self._cursor + 1]

    def show(self, rows: list[Any], now: float) -> None:
        """Show these rows from now on; the cursor stays on its object and at its height."""
        key, height = self.cursor_key, self._cursor - round(self.scroll_y)
        self.now, self.rows = now, rows
        if self.marked:
            self.marked &= {row.key for row in rows}
        size = Size(self._content_width(), len(rows) + 1)
        if size != self.virtual_size:
            self.virtual_size = size
        before = self._cursor
        self._cursor = self._place_of(key, before) if key else 0
        if self._cursor != before and self.scroll_y > 0:
            self.scroll_to(y=max(0, self._cursor - height), animate=False, immediate=True)
        if self.cursor_key != key:
            self.post_message(self.Moved())
        self._refresh_changed()

    def _place_of(self, key: Key, near: int) -> int:
        """Where the object is now; where it was when it is gone."""
        if near < len(self.rows) and self.rows[near].key == key:
            return near
        found = next((place for place, row in enumerate(self.rows) if row.key == key), near)
        return min(found, max(0, len(self.rows) - 1))

    def _refresh_changed(self) -> None:
        """Ask for the lines to be painted that are not what they were; all of them when a second has passed."""
        picture = self._picture()
        old, self._shown = self._shown, picture
        if old[0] != picture[0] or len(old[1]) != len(picture[1]):
            self.refresh()
            return
        width = self.size.width
        pairs = enumerate(zip(old[1], picture[1], strict=True), start=1)
        changed = [Region(0, y, width, 1) for y, (was, now) in pairs if was[0] is not now[0] or was[1] != now[1]]
        if changed:
            self.refresh(*changed)

    def _picture(self) -> tuple[tuple[object, ...], list[tuple[Any, str]]]:
        """What the lines depend on together, and what each depends on by itself."""
        first = round(self.scroll_y)
        visible = self.rows[first : first + self.size.height]
        common = (
            int(self.now),
            first,
            self.order,
            self.size,
            self.wide,
            self.empty,
            self.has_focus,
            len(self.rows) == 0,
        )
        return common, [(row, self._over(row, first + index)) for index, row in enumerate(visible)]

    def go(self, place: int) -> None:
        """Move the cursor to a line, as far as there are lines."""
        place = max(0, min(place, len(self.rows) - 1))
        if place != self._cursor:
            self._cursor = place
            self.post_message(self.Moved())
        self.scroll_to_region(Region(round(self.scroll_x), place, 1, 2), animate=False, immediate=True)
        self.refresh()

    def go_to(self, key: Key) -> bool:
        """Move the cursor to an object; False when it is not shown."""
        place = self._place_of(key, self._cursor)
        found = place < len(self.rows) and self.rows[place].key == key
        if found:
            self.go(place)
        return found

    def rest(self) -> None:
        """Back to the first line, for a table nobody is in: news at its top must not push it out of sight."""
        if self._cursor or self.scroll_y:
            self.go(0)

    def move(self, lines: int) -> None:
        """Move the cursor by so many lines."""
        self.go(self._cursor + lines)

    @property
    def page(self) -> int:
        """Lines of a page."""
        return max(1, self.scrollable_content_region.height - 1)

    def toggle_mark(self) -> None:
        """Mark or unmark the object under the cursor and go on."""
        key = self.cursor_key
        if key is not None:
            self.marked ^= {key}
            self.move(1)

    def mark_range(self) -> None:
        """Mark everything between the nearest mark above the cursor and the cursor."""
        start = next((p for p in range(self._cursor, -1, -1) if self.rows[p].key in self.marked), self._cursor)
        self.marked |= {row.key for row in self.rows[start : self._cursor + 1]}
        self.refresh()

    def clear_marks(self) -> None:
        """Unmark everything."""
        self.marked.clear()
        self.refresh()

    def on_focus(self) -> None:
        """The cursor is shown where the keys go."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor is not shown elsewhere."""
        self.refresh()

    # Input --------------------------------------------------------------------------------------------------------
    def on_click(self, event: events.Click) -> None:
        """Header: sort; row: cursor; row under the cursor again: open."""
        line = event.y
        if line == 0:
            self._click_header(event.x + round(self.scroll_x))
            return
        place = line - 1 + round(self.scroll_y)
        if place >= len(self.rows):
            return
        if place == self._cursor and event.chain > 1:
            self.post_message(self.Opened(self.rows[place].key))
        self.go(place)

    def _click_header(self, x: int) -> None:
        left = GUTTER
        for column, width in self._layout():
            if left <= x <= left + width:
                self.post_message(self.HeaderClicked(column))
                return
            left += width + WIDE_GAP

    # Painting -----------------------------------------------------------------------------------------------------
    def notify_style_update(self) -> None:
        """The theme changed."""
        self._palette = None
        self._strips.clear()
        super().notify_style_update()

    def on_resize(self) -> None:
        """The columns that fit change with the width."""
        self.virtual_size = Size(self._content_width(), len(self.rows) + 1)
        self.go(self._cursor)

    def _content_width(self) -> int:
        if not self.wide:
            return self.scrollable_content_region.width
        return GUTTER + sum(column.width + WIDE_GAP for column in self.columns)

    def _layout(self) -> list[tuple[Column[Any], int]]:
        width = self.scrollable_content_region.width
        if self.wide and self._content_width() > width:
            return [(column, column.width) for column in self.columns]
        return fit(self.columns, width - GUTTER - WIDE_GAP)  # a gap at the right end too

    def render_line(self, y: int) -> Strip:
        """The header for the first line, else the row that is scrolled there."""
        if self._palette is None:
            self._palette = Palette(self)
        width = self.scrollable_content_region.width
        if y == 0:
            return self._crop(self._header(self._palette), width, self._palette)
        place = round(self.scroll_y) + y - 1
        if place < len(self.rows):
            return self._cached(place, width, self._palette)
        if not self.rows and y == 2:
            words = set_cell_size(f" {self.empty}", width)
            return Strip([Segment(words, self._palette.style("dim"))], width)
        return Strip.blank(width, self._palette.base)

    def _cached(self, place: int, width: int, palette: Palette) -> Strip:
        """The line of a row: painted once a second, or when the row, its look or the columns change."""
        row = self.rows[place]
        look = (self._over(row, place), row.key in self.marked, int(self.now), width, round(self.scroll_x), self.wide)
        known = self._strips.get(row.key)
        if known is not None and known[0] is row and known[1] == look:
            return known[2]
        strip = self._crop(self._row(place, palette), width, palette)
        if len(self._strips) > CACHED:
            self._strips.clear()
        self._strips[row.key] = (row, look, strip)
        return strip

    def _over(self, row: Any, place: int) -> str:
        """What lies over the row's colours: cursor, mark or nothing."""
        return "cursor" if place == self._cursor and self.has_focus else "mark" if row.key in self.marked else ""

    def _crop(self, strip: Strip, width: int, palette: Palette) -> Strip:
        left = round(self.scroll_x)
        if not left and strip.cell_length == width:
            return strip
        style = strip._segments[-1].style if strip._segments else palette.base
        return strip.crop_extend(left, left + width, style)

    def _header(self, palette: Palette) -> Strip:
        style = palette.style("header")
        pieces = [Segment(" ", style)]
        for column, width in self._layout():
            arrow = ""
            if column.name == self.order.column:
                arrow = self.glyphs.down if self.order.reverse else self.glyphs.up
            title = column.title + arrow if len(column.title + arrow) <= width else column.title[: width - 1] + arrow
            words = title.rjust(width) if column.right else title.ljust(width)
            pieces.append(Segment(words[:width] + " ", style))
        return Strip(pieces)

    def _row(self, place: int, palette: Palette) -> Strip:
        row = self.rows[place]
        over = self._over(row, place)
        gap = Segment(" ", palette.style("", over))
        marked = row.key in self.marked
        pieces = [Segment(self.glyphs.mark, palette.style("warn", over)) if marked else gap]
        for column, width in self._layout():
            cell = column.cell(row, Ink(self.now, self.glyphs, width))
            pieces += self._cell(cell, width, column.right, palette, over)
            pieces.append(gap)
        return Strip(pieces)

    def _cell(self, cell: Cell, width: int, right: bool, palette: Palette, over: str) -> list[Segment]:
        """One cell in exactly ``width`` columns, cut with an ellipsis when it is longer."""
        used = sum(cell_len(words) for words, _ in cell)
        if used > width:
            words = "".join(words for words, _ in cell)
            cut = set_cell_size(words, width - 1) + self.glyphs.ellipsis
            return [Segment(cut, palette.style(cell[0][1], over))]
        pieces = [Segment(words, palette.style(tone, over)) for words, tone in cell]
        if used < width:
            blank = Segment(" " * (width - used), palette.style("", over))
            return [blank, *pieces] if right else [*pieces, blank]
        return pieces
