"""One sandbox: its head, and a page of its parts.

Timeline, conditions, events and description come from the world and follow it. YAML is read when the object changes.
Processes, files and usage are asked inside the sandbox, again and again while they are shown and never otherwise.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from textual import work
from textual.widget import Widget

from appliance.api.states import State
from tui.act.table import Action
from tui.model.change import Key
from tui.model.sandboxes import SandboxRow
from tui.screens.deck import DeckScreen
from tui.screens.page_keys import PageKeys
from tui.view import facts
from tui.view.cells import Cell, Piece, text
from tui.view.commands import PROCESSES, listing
from tui.view.usage import USAGE, Reading, parse, usage_lines
from tui.widgets.lines import Lines, Page

PARTS = ("timeline", "conditions", "events", "describe", "yaml", "processes", "files", "usage")
INSIDE = ("processes", "files", "usage")
AGAIN = 3.0
"""Seconds between two questions to the sandbox."""
READINGS = 60
"""Readings of its use that are kept."""


class SandboxScreen(PageKeys, DeckScreen):
    """Follows one sandbox, also past its end."""

    name_of = "sandbox"

    def __init__(self, key: Key, part: str = "timeline", directory: str = "") -> None:
        super().__init__()
        self.key = key
        self.part = part
        self._yaml: list[Cell] = []
        self._yaml_of = ""
        self._answers: dict[str, list[Cell]] = {}
        self._readings: deque[Reading] = deque(maxlen=READINGS)
        self.directory = directory

    def body(self) -> Iterable[Widget]:
        """Head, names of the parts, the chosen part."""
        yield Lines(id="head")
        yield Lines(id="parts")
        yield Page()

    def on_mount(self) -> None:
        """Keys scroll."""
        super().on_mount()
        self.focus_body()
        self.choose(self.part)

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
        self.query_one("#parts", Lines).show([self._names()])
        self.query_one(Page).show(self._lines(row, now))

    def _names(self) -> Cell:
        """The parts; where they do not fit the chosen one comes first, so that it is seen and what tab leads to."""
        parts: Sequence[str] = PARTS
        place = PARTS.index(self.part)
        if sum(len(part) + 3 for part in PARTS) > self.size.width:
            parts = PARTS[place:] + PARTS[:place]
        names: list[Piece] = []
        for part in parts:
            names += [(f" {part} ", "cursor" if part == self.part else "dim"), (" ", "")]
        return tuple(names)

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
            case "processes" | "files" | "usage":
                return self._answers.get(self.part, [text(" asking inside the sandbox", "dim")])
        version = row.source.meta.resource_version
        if self._yaml_of != version:
            self._yaml_of = version
            self.run_worker(self._load(row), group="yaml", exclusive=True)
        return self._yaml or [text(" loading", "dim")]

    async def _load(self, row: SandboxRow) -> None:
        self._yaml = await self.deck.yaml_lines(row)
        self.paint()

    def choose(self, part: str) -> None:
        """Show a part from its top; what is asked inside is asked for as long as it is shown."""
        self.part = part
        self.query_one(Page).scroll_home(animate=False)
        self.workers.cancel_group(self, "inside")
        if part in INSIDE:
            self._answers.pop(part, None)
            self._ask(part)
        self.paint()

    @work(group="inside", exclusive=True)
    async def _ask(self, part: str) -> None:
        while self.part == part:
            self._answers[part] = await self._answer(part)
            if self.app.screen is self:
                self.paint()
            await asyncio.sleep(AGAIN)

    async def _answer(self, part: str) -> list[Cell]:
        """What the sandbox says, or why it does not."""
        row = self.deck.source.world.sandboxes.get(self.key)
        if row is None or row.state is State.DEAD:
            return [text(" It is gone: nobody answers inside.", "dim")]
        if row.state is State.PAUSED:
            return [text(" It is paused: nothing runs in it. u resumes it.", "dim")]
        if part != "usage":
            command = PROCESSES if part == "processes" else listing(self.directory)
            words, good = await self.deck.inside(self.key, command)
            return [text(f" {line}", "" if good else "bad") for line in words.splitlines()] or [text(" nothing", "dim")]
        words, good = await self.deck.inside(self.key, USAGE)
        reading = parse(words) if good else None
        if reading is None:
            return [text(f" {line}", "bad") for line in words.splitlines()]
        self._readings.append(reading)
        return usage_lines(list(self._readings), self.deck.glyphs)

    def after_upgrade(self) -> None:
        """The condition tells how it goes."""
        self.choose("conditions")

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

    def do_processes(self, argument: str) -> None:
        """What runs in it."""
        self.choose("processes")

    def do_files(self, argument: str) -> None:
        """What lies in it; ``:files /tmp`` for another directory than its home."""
        self.directory = argument or self.directory
        self.choose("files")

    def do_usage(self, argument: str) -> None:
        """What it uses."""
        self.choose("usage")
