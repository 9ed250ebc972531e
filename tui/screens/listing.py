"""A screen around one live table: filter, sort, marks, and going into what is under the cursor."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from textual import events
from textual.widget import Widget

from tui.act.table import Action
from tui.model.pools import PoolRow
from tui.model.sandboxes import SandboxRow
from tui.screens.deck import DeckScreen
from tui.screens.prompt import Prompt
from tui.view.columns import Filter, arrange, parse_filter
from tui.view.summaries import claim_summary
from tui.view.tables import CLAIMS, POOLS, SANDBOXES, Table
from tui.widgets.lines import Lines
from tui.widgets.table import LiveTable


class ListScreen(DeckScreen):
    """One table; subclasses say which."""

    table: ClassVar[Table]

    def __init__(self) -> None:
        super().__init__()
        self.filter = Filter()
        self.only_faults = False
        self._before = ""
        self._total = 0

    def body(self) -> Iterable[Widget]:
        """Summary lines and the table."""
        deck = self.deck
        yield Lines(id="summary")
        live = LiveTable(deck.columns_of(self.table), deck.glyphs, empty="")
        live.order = self.table.order
        yield live

    @property
    def live(self) -> LiveTable:
        """The table."""
        return self.query_one(LiveTable)

    def on_mount(self) -> None:
        """Keys go to the table."""
        super().on_mount()
        self.focus_body()

    def focus_body(self) -> None:
        """Keys go to the table."""
        self.live.focus()

    # Painting -----------------------------------------------------------------------------------------------------
    def paint_body(self, now: float) -> None:
        """Filter and sort the rows and hand them to the table."""
        rows = self.table.rows(self.deck.source.world, now)
        if self.deck.namespace is not None:
            rows = [row for row in rows if row.key[0] == self.deck.namespace]
        self._total = len(rows)
        if self.only_faults:
            rows = [row for row in rows if troubled(row)]
        live = self.live
        live.empty = self._why_empty()
        live.show(arrange(rows, self.filter, live.order, live.columns), now)
        self.query_one("#summary", Lines).show(self.summary(now))

    def summary(self, now: float) -> list[Any]:
        """Lines above the table."""
        return []

    def _why_empty(self) -> str:
        if self.filter.source or self.only_faults:
            return f"None of {self._total} match; Esc clears the filter."
        return self.deck.why_empty(self.table.name) or self.table.empty

    @property
    def filter_text(self) -> str:
        """The filter in force."""
        faults = "faults " if self.only_faults else ""
        return f"{faults}/{self.filter.source}" if self.filter.source else faults.strip()

    @property
    def count_text(self) -> str:
        """Rows shown of all, and marks."""
        live = self.live
        marked = f", {len(live.marked)} marked" if live.marked else ""
        shown = len(live.rows)
        return f"{shown}{f' of {self._total}' if shown != self._total else ''}{marked}"

    # Keys ---------------------------------------------------------------------------------------------------------
    def on_key(self, event: events.Key) -> None:
        """Shift and a letter sorts by the column of that letter."""
        if self.query_one(Prompt).is_open or not event.character or not event.character.isupper():
            return
        column = next((one for one in self.live.columns if one.letter == event.character), None)
        if column is not None:
            event.stop()
            self.sort_by(column)

    def sort_by(self, column: Any) -> None:
        """Sort; again turns the order."""
        self.live.order = self.live.order.toggled(column)
        self.paint()

    def on_live_table_header_clicked(self, event: LiveTable.HeaderClicked) -> None:
        """A click sorts too."""
        self.sort_by(event.column)

    def on_live_table_opened(self, event: LiveTable.Opened) -> None:
        """A double click opens."""
        self.do_open("")

    def targets(self, action: Action) -> Sequence[Any]:
        """The marked rows, or the one under the cursor."""
        return self.live.chosen

    # Actions ------------------------------------------------------------------------------------------------------
    def do_filter(self, argument: str) -> None:
        """Ask for a filter, or set the one that was given."""
        if argument:
            self.set_filter(argument)
        else:
            self._before = self.filter.source
            self.query_one(Prompt).open("filter", "/", self.filter.source)

    def set_filter(self, source: str) -> None:
        """Filter from now on; a label selector that is none is said, not applied."""
        try:
            self.filter = parse_filter(source)
        except ValueError as error:
            self.flash(str(error), "warn")
            return
        self.paint()

    def on_prompt_typed(self, event: Prompt.Typed) -> None:
        """A filter works while it is typed."""
        if event.purpose == "filter" and not event.text.startswith("-"):
            self.set_filter(event.text)

    def on_prompt_entered(self, event: Prompt.Entered) -> None:
        """The filter stays; other answers are everybody's."""
        if event.purpose == "filter":
            self.close_prompt()
            self.set_filter(event.text)
            return
        super().on_prompt_entered(event)

    def on_prompt_cancelled(self, event: Prompt.Cancelled) -> None:
        """Escape gives the old filter back."""
        super().on_prompt_cancelled(event)
        if event.purpose == "filter":
            self.set_filter(self._before)

    def do_back(self, argument: str) -> None:
        """First the filter and the marks go, then the screen."""
        if self.filter.source or self.only_faults:
            self.only_faults = False
            self.set_filter("")
        elif self.live.marked:
            self.live.clear_marks()
            self.paint()
        else:
            super().do_back(argument)

    def do_faults(self, argument: str) -> None:
        """Only rows with trouble, or all again."""
        self.only_faults = not self.only_faults
        self.paint()

    def do_wide(self, argument: str) -> None:
        """All columns, scrolling sideways, or those that fit."""
        self.live.wide = not self.live.wide
        self.live.on_resize()
        self.paint()

    def do_mark(self, argument: str) -> None:
        """Mark and go on."""
        self.live.toggle_mark()
        self.paint_bars()

    def do_mark_range(self, argument: str) -> None:
        """Mark a range."""
        self.live.mark_range()
        self.paint_bars()

    def do_unmark(self, argument: str) -> None:
        """No marks."""
        self.live.clear_marks()
        self.paint_bars()

    def do_down(self, argument: str) -> None:
        """One line down."""
        self.live.move(1)

    def do_up(self, argument: str) -> None:
        """One line up."""
        self.live.move(-1)

    def do_top(self, argument: str) -> None:
        """First line."""
        self.live.go(0)

    def do_bottom(self, argument: str) -> None:
        """Last line."""
        self.live.go(len(self.live.rows))

    def do_page_down(self, argument: str) -> None:
        """A page down."""
        self.live.move(self.live.page)

    def do_page_up(self, argument: str) -> None:
        """A page up."""
        self.live.move(-self.live.page)

    def do_open(self, argument: str) -> None:
        """Go into the object under the cursor."""
        row = self.row
        if isinstance(row, PoolRow):
            self.deck.choose_namespace(row.key[0])
            self.deck.go("sandboxes", filter=f"-l agents.kruise.io/sandbox-template={row.key[1]}")
        elif isinstance(row, SandboxRow):
            self.deck.open_sandbox(row.key)
        elif row is not None:
            self.deck.open_claim(row)

    @property
    def row(self) -> Any:
        """The row under the cursor; None in an empty table."""
        key = self.live.cursor_key
        return next((row for row in self.live.rows if row.key == key), None)

    def do_describe(self, argument: str) -> None:
        """Describe the object under the cursor."""
        if self.row is not None:
            self.deck.describe(self.row)

    def do_yaml(self, argument: str) -> None:
        """The object as YAML."""
        if self.row is not None:
            self.deck.show_yaml(self.row)

    def do_logs(self, argument: str) -> None:
        """Follow the logs of the sandbox under the cursor."""
        if self.row is not None:
            self.deck.show_logs(self.row.key)

    def do_shell(self, argument: str) -> Any:
        """A shell in the sandbox under the cursor."""
        return self.deck.shell(self.row.key) if self.row is not None else None

    def do_processes(self, argument: str) -> None:
        """Processes of the sandbox under the cursor."""
        if self.row is not None:
            self.deck.open_sandbox(self.row.key, "processes")

    def do_files(self, argument: str) -> None:
        """Files of the sandbox under the cursor."""
        if self.row is not None:
            self.deck.open_sandbox(self.row.key, "files", argument)

    def do_usage(self, argument: str) -> None:
        """What the sandbox under the cursor uses."""
        if self.row is not None:
            self.deck.open_sandbox(self.row.key, "usage")


def troubled(row: Any) -> bool:
    """Whether a row is one an operator looks for when something is wrong."""
    if isinstance(row, PoolRow):
        return row.health in ("dry", "failing", "low") or row.lagging
    if isinstance(row, SandboxRow):
        return row.failing or row.restarts > 0 or row.state.value == "dead" or row.pausing
    return row.phase in ("short", "timeout", "claiming")


class PoolsScreen(ListScreen):
    """Every pool."""

    name_of = "pools"
    table = POOLS


class SandboxesScreen(ListScreen):
    """Every sandbox."""

    name_of = "sandboxes"
    table = SANDBOXES


class ClaimsScreen(ListScreen):
    """Claims in flight and recent, and how long they take."""

    name_of = "claims"
    table = CLAIMS

    def summary(self, now: float) -> list[Any]:
        """Latency over time and the legend of the bars."""
        deck = self.deck
        return claim_summary(deck.source.world, deck.source.health(), now, deck.glyphs, self.size.width)
