"""Everything at a glance: the fleet in four lines, the pools worst first, and what needs a look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.widget import Widget

from tui.act.table import Action
from tui.model.alerts import Alert, alerts
from tui.model.change import Key
from tui.model.pools import SEVERITY
from tui.screens.deck import DeckScreen
from tui.view.cells import Cell, text
from tui.view.columns import Column, Ink
from tui.view.summaries import fleet
from tui.view.tables import POOL_COLUMNS
from tui.widgets.lines import Lines
from tui.widgets.table import LiveTable

LEVELS = (("urgent", "bad"), ("warning", "warn"), ("notice", "busy"))
POOLS_SHOWN = 8


@dataclass(frozen=True)
class AlertRow:
    """An alert as a row."""

    alert: Alert

    @property
    def key(self) -> Key:
        """Alerts of one title are one alert."""
        return "", self.alert.title

    @property
    def text(self) -> str:
        """Words to search in."""
        return f"{self.alert.title} {self.alert.detail}".lower()


def _level(row: AlertRow, ink: Ink) -> Cell:
    word, tone = LEVELS[row.alert.level]
    return text(f"{ink.glyphs.warning} {word}", tone)


ALERT_COLUMNS: tuple[Column[AlertRow], ...] = (
    Column("level", "LEVEL", 9, _level, lambda r: r.alert.level, rank=0),
    Column("title", "ALERT", 24, lambda r, i: text(r.alert.title), lambda r: r.alert.title, rank=0, grow=True),
    Column("detail", "WHY", 24, lambda r, i: text(r.alert.detail, "dim"), lambda r: r.alert.detail, rank=1, grow=True),
)


class OverviewScreen(DeckScreen):
    """The first screen."""

    name_of = "overview"
    CSS = """
    OverviewScreen #pools-brief { max-height: 40%; }
    OverviewScreen #alerts { min-height: 4; }
    OverviewScreen .head { height: 1; }
    """

    def body(self) -> Iterable[Widget]:
        """Fleet, pools, alerts."""
        yield Lines(id="fleet")
        yield Lines([()], id="pools-head", classes="head")
        brief = LiveTable(self.deck.columns_of_pools(POOL_COLUMNS), self.deck.glyphs)
        brief.id = "pools-brief"
        yield brief
        yield Lines([()], id="alerts-head", classes="head")
        found = LiveTable(ALERT_COLUMNS, self.deck.glyphs, empty="Nothing needs attention.")
        found.id = "alerts"
        yield found

    def on_mount(self) -> None:
        """Keys go to the pools."""
        super().on_mount()
        self.focus_body()

    def focus_body(self) -> None:
        """Keys go to the pools, or to the alerts when there are no pools."""
        pools, found = self._tables()
        (pools if pools.rows or not found.rows else found).focus()

    def _tables(self) -> tuple[LiveTable, LiveTable]:
        return self.query_one("#pools-brief", LiveTable), self.query_one("#alerts", LiveTable)

    @property
    def live(self) -> LiveTable:
        """The table that has the keys."""
        pools, found = self._tables()
        return found if found.has_focus else pools

    def paint_body(self, now: float) -> None:
        """Bring the three parts up to date."""
        deck, world = self.deck, self.deck.source.world
        every = world.pool_rows(now)
        rows = [row for row in every if deck.namespace in (None, row.key[0])]
        rows.sort(key=lambda row: (SEVERITY[row.health], row.key))
        pools, found = self._tables()
        self.query_one("#fleet", Lines).show(fleet(world, every, now, deck.glyphs, self.size.width))
        line = deck.glyphs.line
        self.query_one("#pools-head", Lines).show([text(f"{line * 2} pools, worst first ".ljust(400, line), "dim")])
        pools.styles.height = max(2, min(len(rows), POOLS_SHOWN) + 1)
        pools.empty = deck.why_empty("pools") or "No pools."
        pools.show(rows, now)
        seen = alerts(world, every, deck.source.health(), now)
        shown = [AlertRow(one) for one in seen]
        tone = LEVELS[seen[0].level][1] if seen else "good"
        head = f"{line * 2} {len(seen)} alert{'' if len(seen) == 1 else 's'} "
        self.query_one("#alerts-head", Lines).show([text(head.ljust(400, line), tone)])
        found.empty = "Nothing needs attention." if deck.source.ready else "Waiting for the first answers."
        found.show(shown, now)

    @property
    def count_text(self) -> str:
        """Pools there are."""
        return f"{len(self._tables()[0].rows)} pools"

    def targets(self, action: Action) -> Sequence[Any]:
        """Nothing is done to things from here."""
        return ()

    def do_open(self, argument: str) -> None:
        """The pool, or what the alert is about."""
        live = self.live
        key = live.cursor_key
        row: Any = next((one for one in live.rows if one.key == key), None)
        if isinstance(row, AlertRow):
            if row.alert.about is not None:
                self.deck.go(row.alert.view, at=row.alert.about)
        elif row is not None:
            self.deck.go("pools", at=row.key)

    def on_live_table_opened(self, event: LiveTable.Opened) -> None:
        """A double click opens."""
        self.do_open("")

    def do_filter(self, argument: str) -> None:
        """Filtering is for the sandboxes."""
        self.deck.go("sandboxes", filter=argument or None)
        if not argument:
            self.deck.screen.call_after_refresh(self.deck.screen.action_act, "filter")  # type: ignore[attr-defined]

    def do_down(self, argument: str) -> None:
        """One line down, into the alerts after the last pool."""
        pools, found = self._tables()
        if self.live is pools and pools.cursor_key == (pools.rows[-1].key if pools.rows else None) and found.rows:
            found.focus()
        else:
            self.live.move(1)

    def do_up(self, argument: str) -> None:
        """One line up, back into the pools from the first alert."""
        pools, found = self._tables()
        if self.live is found and found.cursor_key == (found.rows[0].key if found.rows else None) and pools.rows:
            pools.focus()
        else:
            self.live.move(-1)

    def do_top(self, argument: str) -> None:
        """First line."""
        self.live.go(0)

    def do_bottom(self, argument: str) -> None:
        """Last line."""
        self.live.go(len(self.live.rows))
