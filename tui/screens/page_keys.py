"""The keys that move through a page of text, for every screen whose body is one ``Page``."""

from __future__ import annotations

from textual.widget import Widget

from tui.widgets.lines import Page


class PageKeys(Widget):
    """Mixed into a screen: each method is the action of a key."""

    def do_down(self, argument: str) -> None:
        """One line."""
        self.query_one(Page).scroll_relative(y=1, animate=False)

    def do_up(self, argument: str) -> None:
        """One line."""
        self.query_one(Page).scroll_relative(y=-1, animate=False)

    def do_top(self, argument: str) -> None:
        """First line."""
        self.query_one(Page).scroll_home(animate=False)

    def do_bottom(self, argument: str) -> None:
        """Last line."""
        self.query_one(Page).scroll_end(animate=False)

    def do_page_down(self, argument: str) -> None:
        """A page."""
        self.query_one(Page).scroll_page_down(animate=False)

    def do_page_up(self, argument: str) -> None:
        """A page."""
        self.query_one(Page).scroll_page_up(animate=False)
