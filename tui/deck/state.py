"""What the application knows, and what screens ask it about that: columns, reasons, refusals, themes, time."""

from __future__ import annotations

from typing import Any

from textual import work
from textual.app import App

from tui.act.access import refusals
from tui.configuration import Configuration
from tui.feed.replay import Player
from tui.feed.source import Source
from tui.model.alerts import Alert
from tui.screens.bars import condition
from tui.screens.deck import DeckScreen
from tui.screens.seeking import position
from tui.view.cells import ASCII, UNICODE, Glyphs
from tui.view.columns import Column
from tui.view.tables import Table

FLASH = 6.0
"""Seconds a message stays."""
PLURALS = {"pools": ("sandboxsets",), "sandboxes": ("sandboxes",), "claims": ("sandboxclaims", "sandboxes")}
"""What each table is made of."""


class DeckState(App[None]):
    """One source of data, and how it is looked at."""

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
        self.animation_level = "none"
        self.set_class(glyphs is ASCII, "-ascii")
        self._clock_paused = clock_paused

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
        worst = condition([one for one in self.source.health() if one.plural in PLURALS[table]])
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
