"""Screens of text over another one: describe, YAML, help, and logs that follow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable

from textual import work
from textual.widget import Widget
from textual.widgets import Log

from appliance.kube import errors
from tui.screens.deck import DeckScreen, shown_lines
from tui.screens.page_keys import PageKeys
from tui.view.cells import Cell, clean
from tui.widgets.lines import Page

LOG_LINES = 20_000
"""Lines of a log kept on screen."""


class PageScreen(PageKeys, DeckScreen):
    """Lines that are made anew at every paint, so that what is described stays live."""

    name_of = "page"

    def __init__(self, title: str, lines: Callable[[float], list[Cell]]) -> None:
        super().__init__()
        self._title = title
        self._make = lines

    def body(self) -> Iterable[Widget]:
        """One page."""
        yield Page()

    def on_mount(self) -> None:
        """Keys scroll."""
        super().on_mount()
        self.focus_body()

    def focus_body(self) -> None:
        """Keys scroll."""
        self.query_one(Page).focus()

    @property
    def crumbs(self) -> str:
        """What is shown."""
        return self._title

    def paint_body(self, now: float) -> None:
        """The lines of this moment."""
        self.query_one(Page).show(self._make(now))

    def do_copy(self, argument: str) -> None:
        """The whole page to the clipboard."""
        self.app.copy_to_clipboard(self.query_one(Page).plain)
        self.flash("copied", "good")


class LogScreen(DeckScreen):
    """The log of a container, followed until the screen is left; scrolling up holds the view, end follows again."""

    name_of = "logs"
    CSS = """
    LogScreen Log { height: 1fr; overflow: auto auto; background: $background; background-tint: $foreground 0%;
        scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    """

    def __init__(self, title: str, lines: Callable[[], AsyncIterator[str]]) -> None:
        super().__init__()
        self._title = title
        self._open = lines
        self._state = "opening"

    def body(self) -> Iterable[Widget]:
        """The log."""
        yield Log(max_lines=LOG_LINES)

    def on_mount(self) -> None:
        """Start to follow."""
        super().on_mount()
        self.focus_body()
        self.follow()

    def focus_body(self) -> None:
        """Keys scroll."""
        self.query_one(Log).focus()

    @work(group="log", exclusive=True)
    async def follow(self) -> None:
        """Write what arrives until it ends; say how it ended."""
        log = self.query_one(Log)
        self._state = "following, nothing printed yet"
        self.paint_bars()
        try:
            async for line in self._open():
                self._state = "following"
                log.write_line(clean(line))
            self._state = "ended"
        except errors.KubeError as error:
            self._state = "failed"
            log.write_line(f"-- {error}")
        if self.is_mounted:
            self.paint_bars()

    @property
    def crumbs(self) -> str:
        """Whose log."""
        return f"{self._title}: {self._state}"

    def paint_body(self, now: float) -> None:
        """The log paints itself."""

    def do_copy(self, argument: str) -> None:
        """The lines that are kept, to the clipboard."""
        self.app.copy_to_clipboard("\n".join(self._log().lines))
        self.flash("copied", "good")

    def _log(self) -> Log:
        return self.query_one(Log)

    def do_down(self, argument: str) -> None:
        """One line."""
        self._log().scroll_relative(y=1, animate=False)

    def do_up(self, argument: str) -> None:
        """One line, and hold."""
        self._log().auto_scroll = False
        self._log().scroll_relative(y=-1, animate=False)

    def do_top(self, argument: str) -> None:
        """First line, and hold."""
        self._log().auto_scroll = False
        self._log().scroll_home(animate=False)

    def do_bottom(self, argument: str) -> None:
        """Last line, and follow."""
        self._log().auto_scroll = True
        self._log().scroll_end(animate=False)

    def do_page_down(self, argument: str) -> None:
        """A page."""
        self._log().scroll_page_down(animate=False)

    def do_page_up(self, argument: str) -> None:
        """A page, and hold."""
        self._log().auto_scroll = False
        self._log().scroll_page_up(animate=False)


def plain(lines: list[Cell]) -> str:
    """A page as plain text."""
    return shown_lines(lines)
