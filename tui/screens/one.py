"""One sandbox: its head, and a page of its parts: timeline, conditions, events, description, YAML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from textual.widget import Widget

from tui.act.table import Action
from tui.model.change import Key
from tui.model.sandboxes import SandboxRow
from tui.screens.deck import DeckScreen
from tui.screens.page_keys import PageKeys
from tui.view import facts
from tui.view.cells import Cell, Piece, text
from tui.widgets.lines import Lines, Page

PARTS = ("timeline", "conditions", "events", "describe", "yaml")


class SandboxScreen(PageKeys, DeckScreen):
    """Follows one sandbox, also past its end."""

    name_of = "sandbox"

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key
        self.part = "timeline"
        self._yaml: list[Cell] = []
        self._yaml_of = ""

    def body(self) -> Iterable[Widget]:
        """Head, names of the parts, the chosen part."""
        yield Lines(id="head")
        yield Lines(id="parts")
        yield Page()

    def on_mount(self) -> None:
        """Keys scroll."""
        super().on_mount()
        self.focus_body()

    def focus_body(self) -> None:
        """Keys scroll."""
        self.query_one(Page).focus()

    @property
    def row(self) -> SandboxRow | None:
        """The sandbox, or how it was last seen."""
        return self.deck.source.world.find(self.key)

    @property
    def crumbs(self) -> str:
        """Which sandbox."""
        return self.key[1]

    def paint_body(self, now: float) -> None:
        """Head and part of this moment."""
        row = self.row
        head = self.query_one("#head", Lines)
        if row is None:
            head.show([text(f" {self.key[1]} is not known", "dim")])
            return
        lines = facts.head(row, now, self.deck.glyphs)
        if self.key not in self.deck.source.world.sandboxes:
            lines.append(text(" It is gone; this is how it was last seen.", "bad"))
        head.show([*lines, ()])
        names: list[Piece] = []
        for part in PARTS:
            names += [(f" {part} ", "cursor" if part == self.part else "dim"), (" ", "")]
        self.query_one("#parts", Lines).show([tuple(names)])
        self.query_one(Page).show(self._lines(row, now))

    def _lines(self, row: SandboxRow, now: float) -> list[Cell]:
        world = self.deck.source.world
        match self.part:
            case "timeline":
                return facts.timeline_lines(world, self.key, self.deck.glyphs, now)
            case "conditions":
                return facts.condition_lines(row, world, now)
            case "events":
                return facts.event_lines(world, self.key, now)
            case "describe":
                return facts.describe(world, row, now, self.deck.glyphs)
        version = row.source.meta.resource_version
        if self._yaml_of != version:
            self._yaml_of = version
            self.run_worker(self._load(row), group="yaml", exclusive=True)
        return self._yaml or [text(" loading", "dim")]

    async def _load(self, row: SandboxRow) -> None:
        self._yaml = await self.deck.yaml_lines(row)
        self.paint()

    def choose(self, part: str) -> None:
        """Show a part from its top."""
        self.part = part
        self.query_one(Page).scroll_home(animate=False)
        self.paint()

    def targets(self, action: Action) -> Sequence[Any]:
        """This sandbox, while it exists."""
        row = self.deck.source.world.sandboxes.get(self.key)
        return [row] if row is not None else []

    def do_next_tab(self, argument: str) -> None:
        """The next part."""
        self.choose(PARTS[(PARTS.index(self.part) + 1) % len(PARTS)])

    def do_previous_tab(self, argument: str) -> None:
        """The previous part."""
        self.choose(PARTS[PARTS.index(self.part) - 1])

    def do_describe(self, argument: str) -> None:
        """The description."""
        self.choose("describe")

    def do_yaml(self, argument: str) -> None:
        """The YAML."""
        self.choose("yaml")

    def do_copy(self, argument: str) -> None:
        """The part to the clipboard."""
        self.app.copy_to_clipboard(self.query_one(Page).plain)
        self.flash("copied", "good")

    def do_logs(self, argument: str) -> None:
        """Follow its log."""
        self.deck.show_logs(self.key)

    def do_shell(self, argument: str) -> Any:
        """A shell in it."""
        return self.deck.shell(self.key)

    def do_processes(self, argument: str) -> Any:
        """What runs in it."""
        return self.deck.processes(self.key)

    def do_files(self, argument: str) -> Any:
        """What lies in it."""
        return self.deck.files(self.key, argument)
