"""Everything at a glance: the fleet in four lines, pools worst first, what needs a look, and the newest claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.widget import Widget

from tui.act.table import Action
from tui.model.alerts import Alert, alerts
from tui.model.change import Key
from tui.model.claims import ClaimRow
from tui.model.pools import SEVERITY
from tui.screens.deck import DeckScreen
from tui.view.cells import Cell, text
from tui.view.columns import Column, Ink
from tui.view.summaries import fleet
from tui.view.tables import CLAIM_COLUMNS, POOL_COLUMNS, POOLS
from tui.widgets.lines import Lines
from tui.widgets.table import LiveTable

LEVELS = (("urgent", "bad"), ("warning", "warn"), ("notice", "busy"))
CLAIMS_SHOWN = 50
BRIEF_CLAIMS = tuple(one for one in CLAIM_COLUMNS if one.name not in ("namespace", "kind", "got", "how", "slowest"))


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
    OverviewScreen #fleet.-airy { margin: 1 0; }
    OverviewScreen .head { height: 1; }
    OverviewScreen .head.-airy { margin-top: 1; }
    OverviewScreen #claims-brief { min-height: 2; }
    """

    def body(self) -> Iterable[Widget]:
        """Fleet, pools, alerts, recent claims."""
        deck = self.deck
        yield Lines(id="fleet")
        for name, columns in (
            ("pools", deck.columns_of_pools(POOL_COLUMNS)),
            ("alerts", ALERT_COLUMNS),
            ("claims", BRIEF_CLAIMS),
        ):
            yield Lines([()], id=f"{name}-head", classes="head")
            table = LiveTable(columns, deck.glyphs)
            table.id = f"{name}-brief"
            yield table

    def on_mount(self) -> None:
        """Keys go to the pools."""
        super().on_mount()
        self.focus_body()

    def focus_body(self) -> None:
        """Keys go to the first table that has rows."""
        next((one for one in self._tables if one.rows), self._tables[0]).focus()

    @property
    def _tables(self) -> list[LiveTable]:
        return list(self.query(LiveTable))

    @property
    def live(self) -> LiveTable:
        """The table that has the keys."""
        return next((one for one in self._tables if one.has_focus), self._tables[0])

    def paint_body(self, now: float) -> None:
        """Bring the four parts up to date."""
        deck, world, airy = self.deck, self.deck.source.world, self.size.height >= 30
        every = world.pool_rows(now)
        rows = [row for row in every if deck.namespace in (None, row.key[0])]
        rows.sort(key=lambda row: (SEVERITY[row.health], row.key))
        found = [*alerts(world, every, deck.source.health(), now), *deck.access_alerts()]
        head = self.query_one("#fleet", Lines)
        head.set_class(airy, "-airy")
        head.show(fleet(world, every, now, deck.glyphs, self.size.width))
        tallest = max(3, (self.size.height - 10) // 2)
        heights = (min(len(rows), tallest) + 1 if rows else 3, min(len(found), tallest) + 1 if found else 0)
        self._part("pools", "pools, worst first", "dim", rows, now, heights[0])
        tone = LEVELS[found[0].level][1] if found else "good" if deck.source.ready else "dim"
        calm = "nothing needs attention" if deck.source.ready else "waiting for the first answers"
        title = f"{len(found)} alert{'s'[: len(found) > 1]}" if found else calm
        self._part("alerts", title, tone, [AlertRow(one) for one in found], now, heights[1])
        claims = [row for row in world.claim_rows(now) if deck.namespace in (None, row.key[0])][:CLAIMS_SHOWN]
        if self.size.height - 10 - sum(heights) < 4:
            claims = []
        self._part("claims", "claims, newest first", "dim", claims, now, None)

    def _part(self, name: str, title: str, tone: str, rows: list[Any], now: float, height: int | None) -> None:
        """One heading and its table; a table of no lines, or without anything to show, is not there."""
        line = self.deck.glyphs.line
        head, table = self.query_one(f"#{name}-head", Lines), self.query_one(f"#{name}-brief", LiveTable)
        head.show([text(f"{line * 2} {title} ".ljust(400, line), tone)])
        head.set_class(self.size.height >= 30, "-airy")
        there = bool(rows) if height is None else height > 0
        head.display = there or name == "alerts"
        table.display = there
        if height is not None:
            table.styles.height = height
        table.empty = (self.deck.why_empty("pools") or POOLS.empty) if name == "pools" else ""
        table.show(rows, now)
        if not table.has_focus:
            table.rest()

    @property
    def count_text(self) -> str:
        """Pools there are."""
        count = len(self._tables[0].rows)
        return f"{count} pool{'s'[: count != 1]}"

    def targets(self, action: Action) -> Sequence[Any]:
        """Nothing is done to things from here."""
        return ()

    def do_open(self, argument: str) -> None:
        """The pool, what the alert is about, or the claim."""
        live = self.live
        row: Any = next((one for one in live.rows if one.key == live.cursor_key), None)
        if isinstance(row, AlertRow):
            if row.alert.about is not None:
                self.deck.go(row.alert.view, at=row.alert.about)
        elif isinstance(row, ClaimRow):
            self.deck.go("claims", at=row.key)
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
        """One line down, into the next table after the last line."""
        self._step(1)

    def do_up(self, argument: str) -> None:
        """One line up, into the table before from the first line."""
        self._step(-1)

    def _step(self, way: int) -> None:
        live = self.live
        edge = (live.rows[-1 if way > 0 else 0].key if live.rows else None) == live.cursor_key
        tables = [one for one in self._tables if one.display and (one.rows or one is live)]
        place = tables.index(live) + way if live in tables else 0
        if edge and 0 <= place < len(tables):
            tables[place].go(0 if way > 0 else len(tables[place].rows))
            tables[place].focus()
        else:
            live.move(way)

    def do_top(self, argument: str) -> None:
        """First line."""
        self.live.go(0)

    def do_bottom(self, argument: str) -> None:
        """Last line."""
        self.live.go(len(self.live.rows))
