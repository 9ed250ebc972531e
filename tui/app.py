"""The application: one source of data, four base screens, one timer that paints.

A timer of ``FRAME`` seconds paints the screen on top when the world changed, and once a second anyway, because ages and
timers move. Nothing is painted per event. Everything a screen may ask for is a method here; what needs the cluster is
in ``feed.reads``, ``act.doer`` and ``act.inside``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from functools import partial
from typing import Any, ClassVar

from textual import work
from textual.app import App, SystemCommand
from textual.command import CommandPalette
from textual.screen import Screen

from appliance.api import kinds
from appliance.kube import errors
from tui.act.access import refusals
from tui.act.doer import Doer
from tui.act.table import ACTIONS
from tui.configuration import Configuration
from tui.feed import reads
from tui.feed.replay import Player
from tui.feed.source import Source
from tui.model.alerts import Alert
from tui.model.change import Key
from tui.model.claims import ClaimRow
from tui.model.pools import PoolRow
from tui.screens.bars import condition
from tui.screens.deck import DeckScreen
from tui.screens.listing import ClaimsScreen, ListScreen, PoolsScreen, SandboxesScreen
from tui.screens.one import SandboxScreen
from tui.screens.overview import OverviewScreen
from tui.screens.pages import LogScreen, PageScreen
from tui.screens.seeking import position
from tui.view import facts
from tui.view.cells import ASCII, UNICODE, Cell, Glyphs, text
from tui.view.columns import Column
from tui.view.help import help_lines
from tui.view.tables import Table
from tui.widgets import plain

FRAME = 0.15
"""Seconds between two looks at whether something has to be painted."""
ACCESS_PERIOD = 300.0
"""Seconds between two looks at what is allowed."""
FLASH = 6.0
"""Seconds a message stays."""

log = logging.getLogger(__name__)


class Deck(App[None]):
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

    def __init__(
        self,
        source: Source,
        *,
        readonly: bool = False,
        recording: bool = False,
        glyphs: Glyphs = UNICODE,
        configuration: Configuration | None = None,
        watched: str | None = None,
        clock_paused: bool = False,
    ) -> None:
        """``watched``: the only namespace there is (``--namespace``).

        ``clock_paused``: no timer paints, for tests that call ``frame`` themselves.
        """
        super().__init__()
        self.source = source
        self.readonly = readonly
        self.recording = recording
        self.glyphs = glyphs
        self.configuration = configuration or Configuration()
        self.namespace: str | None = None
        self.watched = watched
        self.refused: dict[str, str] = {}
        """Actions that the cluster does not allow, with the reason."""
        self.doer = Doer(self)
        self.animation_level = "none"
        self.set_class(glyphs is ASCII, "-ascii")
        self._clock_paused = clock_paused
        self._painted: tuple[object, ...] = ()

    def on_mount(self) -> None:
        """Feed the world and start the timer."""
        if self.configuration.theme in self.available_themes:
            self.theme = self.configuration.theme
        if self.configuration.keys:
            self.set_keymap(self.configuration.keys)
        self.run_worker(self.source.run(), group="source", exit_on_error=True)
        if not self._clock_paused:
            self.set_interval(FRAME, self.frame)
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

    async def look_up_access(self) -> None:
        """Ask what is allowed in the namespace in view, or in any."""
        if self.source.cluster is not None:
            known = self.source.world.namespaces()
            place = self.namespace or self.watched
            self.refused = await refusals(self.source.cluster, place, known)

    def choose_namespace(self, name: str | None) -> None:
        """Show one namespace, or all."""
        self.namespace = name
        self._access_of_namespace()

    @work(group="access-of-namespace", exclusive=True)
    async def _access_of_namespace(self) -> None:
        await self.look_up_access()

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

    # Moving about -------------------------------------------------------------------------------------------------
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

    # Reading ------------------------------------------------------------------------------------------------------
    def show_yaml(self, row: Any) -> None:
        """A page with the object as YAML."""
        page: list[Cell] = [text(" loading", "dim")]
        screen = PageScreen(f"{row.key[1]} yaml", lambda now: page)

        async def load() -> None:
            page[:] = await self.yaml_lines(row)
            screen.paint()

        self.push_screen(screen)
        self.run_worker(load(), group="yaml")

    async def yaml_lines(self, row: Any) -> list[Cell]:
        """The object of a row as YAML, or why there is none."""
        kind: Any = kinds.SANDBOX
        key = row.key
        if isinstance(row, PoolRow):
            kind = kinds.SANDBOXSET
        elif isinstance(row, ClaimRow) and row.kind == "claim":
            kind = kinds.SANDBOXCLAIM
        if self.source.cluster is None:
            return [text(" A recording holds no whole objects.", "dim")]
        try:
            words = await reads.object_yaml(self.source.cluster, kind, key)
        except errors.KubeError as error:
            return [text(f" {error}", "bad")]
        return [_yaml_line(line) for line in words.splitlines()]

    def show_logs(self, key: Key) -> None:
        """Follow the log of a sandbox."""
        cluster = self.source.cluster
        if cluster is not None:
            self.push_screen(LogScreen(f"{key[1]} log", partial(reads.follow_log, cluster, key)))

    def shell(self, key: Key) -> None:
        """A shell in a sandbox, on a screen of its own until it ends."""
        from tui.screens.shell import ShellScreen

        cluster = self.source.cluster
        if cluster is None:
            self._say("not connected")
        else:
            self.push_screen(ShellScreen(cluster, key))

    def ended(self, shell: Screen[None], said: str) -> None:
        """A shell ended; ``said`` is what went wrong, or empty."""
        if self.screen is shell:
            self.pop_screen()
        if said:
            self._say(said)

    def _say(self, words: str) -> None:
        if isinstance(self.screen, DeckScreen):
            self.screen.flash(words, "bad")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """The application's own keys mean nothing where every key is somebody else's."""
        screen = self.screen_stack[-1] if self.screen_stack else None
        return not (isinstance(screen, DeckScreen) and screen.takes_every_key)

    async def inside(self, key: Key, command: list[str]) -> tuple[str, bool]:
        """What a command in a sandbox prints, and whether it could be asked; else why not."""
        from tui.act.inside import output

        cluster = self.source.cluster
        if cluster is None:
            return "A recording holds nothing of the inside.", False
        try:
            return await output(cluster, key, command), True
        except errors.KubeError as error:
            return str(error), False

    # What screens ask ---------------------------------------------------------------------------------------------
    def columns_of(self, table: Table) -> tuple[Column[Any], ...]:
        """The columns of a table, as configured."""
        wanted = self.configuration.columns.get(table.name)
        if not wanted:
            return table.columns
        by_name = {column.name: column for column in table.columns}
        return tuple(by_name[name] for name in wanted)

    def columns_of_pools(self, columns: tuple[Column[Any], ...]) -> tuple[Column[Any], ...]:
        """The columns of the overview's pools."""
        return tuple(column for column in columns if column.name not in ("updated", "revision", "paused"))

    def why_empty(self, table: str) -> str:
        """Why a table may be empty although the cluster is not; empty when it is not for such a reason."""
        worst = condition([one for one in self.source.health() if one.plural in _PLURALS[table]])
        match worst.state:
            case "missing":
                return f"This cluster has no {worst.plural}: install the custom resource definitions (crds/)."
            case "forbidden":
                return f"You may not see {worst.plural} here: {worst.detail}. Try --namespace."
            case "lost" | "unauthorized":
                return f"No answer from the cluster: {worst.detail}"
        return "" if self.source.ready else "Waiting for the first answer of the cluster."

    def access_alerts(self) -> list[Alert]:
        """One alert for the actions that the cluster does not allow."""
        if not self.refused or self.readonly:
            return []
        names = ", ".join(sorted(self.refused))
        return [Alert(2, f"not allowed: {names}", next(iter(self.refused.values())))]

    def after_flash(self, screen: DeckScreen) -> None:
        """Take a message away after a while."""
        if not self._clock_paused:
            screen.set_timer(FLASH, screen.unflash)

    def choose_theme(self, name: str) -> str:
        """Set a theme by name, or the next one; returns what to say."""
        names = sorted(self.available_themes)
        if name and name not in names:
            return f"no theme {name!r}; there are {', '.join(names)}"
        self.theme = name or names[(names.index(self.theme) + 1) % len(names)]
        return f"theme {self.theme}"

    def seek(self, to: str) -> None:
        """Move a recording. Raises ValueError for what is no position."""
        player = self.source
        if isinstance(player, Player):
            player.seek(position(to, player))

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


_PLURALS = {"pools": ("sandboxsets",), "sandboxes": ("sandboxes",), "claims": ("sandboxclaims", "sandboxes")}


def _yaml_line(line: str) -> Cell:
    name, colon, rest = line.partition(":")
    if colon and (not rest or rest.startswith(" ")) and not name.lstrip("- ").startswith(("'", '"')):
        return ((f" {name}", "accent"), (colon, "dim"), (rest, ""))
    return text(f" {line}")
