"""From screen to screen."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from tui.deck.state import DeckState
from tui.model.change import Key
from tui.model.claims import ClaimRow
from tui.model.pools import PoolRow
from tui.screens.deck import DeckScreen
from tui.screens.listing import ListScreen
from tui.screens.one import SandboxScreen
from tui.screens.pages import PageScreen
from tui.view import facts
from tui.view.cells import Cell
from tui.view.columns import Column
from tui.view.help import help_lines


class Moving(DeckState):
    """The ways through the deck."""

    def go(self, view: str, *, filter: str | None = None, at: Key | None = None) -> None:  # noqa: A002
        """One of the four base screens, at its bottom; optionally filtered, with the cursor on an object."""
        if self.current_mode != view:
            self.switch_mode(view)
        while len(self.screen_stack) > 1:
            self.pop_screen()
        self.call_after_refresh(self._arrive, filter, at)

    def _arrive(self, filter: str | None, at: Key | None) -> None:  # noqa: A002
        screen = self.screen
        if isinstance(screen, ListScreen):
            if filter:
                screen.set_filter(filter)
            elif at is not None:
                screen.set_filter("")
            screen.paint()
            if at is not None:
                screen.live.go_to(at)

    def open_sandbox(self, key: Key, part: str = "timeline", directory: str = "") -> None:
        """The screen of one sandbox, at one of its parts."""
        self.push_screen(SandboxScreen(key, part, directory))

    def open_claim(self, row: ClaimRow) -> None:
        """The only sandbox of a claim, or what is known of the claim."""
        if len(row.sandboxes) == 1 and self.source.world.find((row.key[0], row.sandboxes[0])) is not None:
            self.open_sandbox((row.key[0], row.sandboxes[0]))
        else:
            self.describe(row)

    def describe(self, row: Any) -> None:
        """A page that describes an object and stays live."""
        kind = type(row)

        def lines(now: float) -> list[Cell]:
            return facts.describe(self.source.world, self._fresh(row, kind, now), now, self.glyphs)

        self.push_screen(PageScreen(f"{row.key[1]}", lines))

    def _fresh(self, row: Any, kind: type, now: float) -> Any:
        world = self.source.world
        rows: Iterable[Any] = (
            world.pool_rows(now)
            if kind is PoolRow
            else world.claim_rows(now)
            if kind is ClaimRow
            else filter(None, [world.find(row.key)])
        )
        return next((one for one in rows if one.key == row.key), row)

    def show_help(self, screen: DeckScreen) -> None:
        """The help of a screen."""
        columns: tuple[Column[Any], ...] = screen.live.columns if isinstance(screen, ListScreen) else ()
        made = partial(help_lines, screen.offers, columns, self.refused, self.configuration.keys)
        self.push_screen(PageScreen("help", lambda now: made(self.size.width - 1)))  # less the scroll bar
