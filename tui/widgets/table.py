"""A table of any number of live rows, painted line by line: only what is visible costs anything.

The widget keeps the rows it was given; ``Painter`` makes lines of them. The cursor stays on a *key*: whatever is
inserted or removed around it, the line under the eye is still the same object at the same height.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from textual import events
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget

from tui.model.change import Key
from tui.view.cells import Glyphs
from tui.view.columns import Column, Order, fit
from tui.widgets.painter import GUTTER, WIDE_GAP, Layout, Painter, Window
from tui.widgets.tones import COMPONENTS, Palette, scoped

NEAR = 32
"""So far from its old place an object is looked for before it is looked for everywhere."""


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
        self._known_painter: Painter | None = None
        self._shown: list[Strip] = []

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
        self._grow(size)
        before = self._cursor
        self._cursor = self._place_of(key, before) if key else 0
        if self._cursor != before and self.scroll_y > 0:
            self.scroll_to(y=max(0, self._cursor - height), animate=False, immediate=True)
        if self.cursor_key != key:
            self.post_message(self.Moved())
        self._refresh_changed()

    def _grow(self, size: Size) -> None:
        """Another number of rows is another length of the scroll bar's thumb; only a bar that comes or goes moves what
        is around it, which Textual then arranges anew."""
        if size == self.virtual_size:
            return
        if size.width == self.virtual_size.width and self.show_vertical_scrollbar and size.height > self.size.height:
            self.set_reactive(Widget.virtual_size, size)
            self._scroll_update(size)
        else:
            self.virtual_size = size

    def _place_of(self, key: Key, near: int) -> int:
        """Where the object is now; where it was when it is gone."""
        last = max(0, len(self.rows) - 1)
        start = max(0, near - NEAR)
        if near <= last and self.rows and self.rows[near].key == key:
            return near
        around = enumerate(self.rows[start : near + NEAR], start)
        found = next((place for place, row in around if row.key == key), None)
        if found is None:
            found = next((place for place, row in enumerate(self.rows) if row.key == key), near)
        return min(found, last)

    def go(self, place: int) -> None:
        """Move the cursor to a line, as far as there are lines."""
        place = max(0, min(place, len(self.rows) - 1))
        if place != self._cursor:
            self._cursor = place
            self.post_message(self.Moved())
        self.scroll_to_region(Region(round(self.scroll_x), place, 1, 2), animate=False, immediate=True)
        self._refresh_changed()

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
        self._refresh_changed()

    def clear_marks(self) -> None:
        """Unmark everything."""
        self.marked.clear()
        self._refresh_changed()

    # Input --------------------------------------------------------------------------------------------------------
    def on_focus(self) -> None:
        """The cursor is shown where the keys go."""
        self.refresh()

    def on_blur(self) -> None:
        """The cursor is not shown elsewhere."""
        self.refresh()

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
        self._known_painter = None
        super().notify_style_update()

    def on_resize(self) -> None:
        """The columns that fit change with the width."""
        self.virtual_size = Size(self._content_width(), len(self.rows) + 1)
        self.go(self._cursor)

    def _content_width(self) -> int:
        if not self.wide:
            return self.scrollable_content_region.width
        return GUTTER + sum(column.width + WIDE_GAP for column in self.columns)

    def _layout(self) -> Layout:
        width = self.scrollable_content_region.width
        if self.wide and self._content_width() > width:
            return tuple((column, column.width) for column in self.columns)
        return tuple(fit(self.columns, width - GUTTER - WIDE_GAP))  # a gap at the right end too

    def _refresh_changed(self) -> None:
        """Ask for those lines to be painted that are not what they were."""
        width, height = self.size
        fresh = self._lines(range(height))
        old, self._shown = self._shown, fresh
        if len(old) != len(fresh):
            self.refresh()
            return
        changed = [Region(0, y, width, 1) for y in range(height) if old[y] is not fresh[y]]
        if changed:
            self.refresh(*changed)

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Rows that came above the cursor move the offset and no line: only lines that differ are painted."""
        if self.show_vertical_scrollbar:
            self.vertical_scrollbar.position = new_value
        if round(old_value) != round(new_value):
            self._refresh_changed()

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines of a part of the widget. Ours are kept by object, so Textual's own cache by place is passed by."""
        strips, ground = self._lines(crop.line_range), self.background_colors[1]
        for filter in self.get_line_filters():  # noqa: A001 - what Textual calls them
            strips = [strip.apply_filter(filter, ground) for strip in strips]
        left, right = crop.column_span
        return [one if not left and one.cell_length == right else one.crop_extend(left, right, None) for one in strips]

    def render_line(self, y: int) -> Strip:
        """One line, without what the terminal makes of its colours."""
        return self._lines(range(y, y + 1))[0]

    def _lines(self, wanted: range) -> list[Strip]:
        """Those lines: the header first, then the rows that are scrolled there."""
        painter = self._known_painter
        if painter is None:
            painter = self._known_painter = Painter(Palette(self), self.glyphs)
        painter.look_through(Window(self._layout(), round(self.scroll_x), self.scrollable_content_region.width))
        top = round(self.scroll_y) - 1
        return [self._line(painter, y, top + y) for y in wanted]

    def _line(self, painter: Painter, y: int, place: int) -> Strip:
        if y == 0:
            return painter.header(self.order)
        if place >= len(self.rows):
            return painter.notice(self.empty if y == 2 and not self.rows else "")
        row = self.rows[place]
        marked = row.key in self.marked
        over = "cursor" if place == self._cursor and self.has_focus else "mark" if marked else ""
        return painter.row(row, over, marked, self.now)
