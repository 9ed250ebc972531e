"""The application: one source of data, four base screens, one timer that paints.

A timer of ``FRAME`` seconds paints the screen on top when the world changed, and once a second anyway, because ages and
timers move. Nothing is painted per event. What a screen may ask for is in ``tui.deck``, layer by layer; what needs the
cluster is in ``feed.reads``, ``act.doer``, ``act.inside`` and ``act.session``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import cached_property, partial
from typing import Any, ClassVar

from textual import work
from textual.app import SystemCommand
from textual.command import CommandPalette
from textual.screen import Screen

from tui.act.doer import Doer
from tui.act.table import ACTIONS
from tui.deck.reading import Reading
from tui.memory import TIDY, tidy
from tui.screens.deck import DeckScreen
from tui.screens.listing import ClaimsScreen, PoolsScreen, SandboxesScreen
from tui.screens.overview import OverviewScreen
from tui.widgets import plain

FRAME = 0.15
"""Seconds between two looks at whether something has to be painted."""
ACCESS_PERIOD = 300.0
"""Seconds between two looks at what is allowed."""


class Deck(Reading):
    """The flight deck."""

    TITLE = "appliance"
    CSS = plain.CSS
    ENABLE_COMMAND_PALETTE = True
    MODES: ClassVar[dict[str, type[Screen[Any]]]] = {  # type: ignore[assignment]
        "overview": OverviewScreen,
        "pools": PoolsScreen,
        "sandboxes": SandboxesScreen,
        "claims": ClaimsScreen,
    }
    DEFAULT_MODE = "overview"

    _painted: tuple[object, ...] = ()

    @cached_property
    def doer(self) -> Doer:
        """Who carries out what changes the cluster."""
        return Doer(self)

    def on_mount(self) -> None:
        """Feed the world and start the timer."""
        if self.configuration.theme in self.available_themes:
            self.theme = self.configuration.theme
        if self.configuration.keys:
            self.set_keymap(self.configuration.keys)
        self.run_worker(self.source.run(), group="source", exit_on_error=True)
        if not self._clock_paused:
            self.set_interval(FRAME, self.frame)
            self.set_interval(TIDY, tidy)
        self._keep_access()

    @work(group="access")
    async def _keep_access(self) -> None:
        """Ask what is allowed once there is a cluster, and again every few minutes: roles change."""
        while True:
            if self.source.cluster is not None and self.source.ready:
                await self.look_up_access()
                await asyncio.sleep(ACCESS_PERIOD)
            else:
                await asyncio.sleep(FRAME)

    def frame(self) -> None:
        """Paint the screen on top if there is anything new to see."""
        if not self.screen_stack:
            return  # it is ending
        now = self.source.now()
        self.source.world.advance(now)
        state = (id(self.source.world), self.source.world.version, int(now), id(self.screen), self._condition())
        if state != self._painted and isinstance(self.screen, DeckScreen):
            self._painted = state
            self.screen.paint()

    def _condition(self) -> object:
        return tuple((one.state, one.detail) for one in self.source.health())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The application's own keys mean nothing where every key is somebody else's."""
        screen = self.screen_stack[-1] if self.screen_stack else None
        return not (isinstance(screen, DeckScreen) and screen.takes_every_key)

    def action_command_palette(self) -> None:
        """The palette, with words of ours."""
        if not any(isinstance(one, CommandPalette) for one in self.screen_stack):
            self.push_screen(CommandPalette(placeholder="search the actions", id="--command-palette"))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: the actions offered on this screen."""
        if not isinstance(screen, DeckScreen):
            return
        for action in ACTIONS:
            if action.group != "move" and screen.offers(action) and action.name != "palette":
                about = f"{action.shown_keys}  {action.argument}".strip() or f":{action.name}"
                yield SystemCommand(action.title, about, partial(screen.action_act, action.name))
