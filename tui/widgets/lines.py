"""Painted text: lines of toned cells, scrollable when there are more than fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from textual.geometry import Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.view.cells import Cell, clean
from tui.widgets.tones import COMPONENTS, Palette, scoped


class Lines(ScrollView, can_focus=False):
    """Shows the lines it was last given; repaints only when they differ."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENTS)
    DEFAULT_CSS = """
    Lines { height: auto; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; overflow: hidden hidden; }
    """ + scoped("Lines")

    def __init__(self, lines: Sequence[Cell] = (), *, id: str | None = None, classes: str = "") -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.lines: list[Cell] = list(lines)
        self._palette: Palette | None = None

    def show(self, lines: Sequence[Cell]) -> None:
        """Show these lines from now on."""
        fresh = list(lines)
        if fresh == self.lines:
            return
        resized = len(fresh) != len(self.lines)
        self.lines = fresh
        self._measure()
        self.refresh(layout=resized)

    @property
    def plain(self) -> str:
        """The words without their tones."""
        return "\n".join("".join(words for words, _ in line) for line in self.lines)

    def on_mount(self) -> None:
        """Size what was given before there was a screen."""
        self._measure()

    def _measure(self) -> None:
        longest = max((sum(cell_len(words) for words, _ in line) for line in self.lines), default=0)
        self.virtual_size = Size(longest, len(self.lines))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as there are."""
        return len(self.lines)

    def notify_style_update(self) -> None:
        """The theme changed."""
        self._palette = None
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One line, cut at the right edge."""
        if self._palette is None:
            self._palette = Palette(self)
        width = self.size.width
        place = y + round(self.scroll_y)
        if place >= len(self.lines):
            return Strip.blank(width, self._palette.base)
        left = round(self.scroll_x)
        pieces = [Segment(clean(words), self._palette.style(tone)) for words, tone in self.lines[place]]
        return Strip(pieces).crop_extend(left, left + width, self._palette.base)


def padded(words: str, width: int) -> str:
    """``words`` in exactly ``width`` columns."""
    return set_cell_size(words, width)


class Page(Lines, can_focus=True):
    """Lines that fill the space and scroll with the keys."""

    DEFAULT_CSS = """
    Page { height: 1fr; overflow-x: auto; overflow-y: auto; }
    """ + scoped("Page")

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The space there is."""
        return container.height
