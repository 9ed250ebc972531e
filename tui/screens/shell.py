"""A shell in a sandbox, on a screen of the deck: the same in a terminal and in a browser.

Every key but the one that leaves is the shell's. Leaving, however it comes about, hangs up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from textual import work
from textual.widget import Widget

from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.act.session import Shell, shell
from tui.act.table import Action
from tui.model.change import Key
from tui.screens.deck import DeckScreen
from tui.widgets.terminal import TerminalView


class ShellScreen(DeckScreen):
    """Ends with the shell; ``said`` is then what went wrong, or empty."""

    name_of = "shell"
    takes_every_key = True

    def __init__(self, cluster: Cluster, key: Key) -> None:
        super().__init__()
        self._cluster, self._key = cluster, key
        self._shell: Shell | None = None
        self._state = "opening"

    def body(self) -> Iterable[Widget]:
        """The terminal."""
        yield TerminalView(self._send, self._resize, self.deck.glyphs)

    def on_mount(self) -> None:
        """Open the shell; keys go there."""
        super().on_mount()
        self.focus_body()
        self.live()

    def focus_body(self) -> None:
        """Keys are the shell's."""
        self.query_one(TerminalView).focus()

    @property
    def crumbs(self) -> str:
        """Where the shell runs."""
        return f"{self._key[1]} shell: {self._state}"

    def paint_body(self, now: float) -> None:
        """The terminal paints itself."""

    def offers(self, action: Action) -> bool:
        """One key is not the shell's."""
        return action.name == "leave"

    def do_leave(self, argument: str) -> None:
        """Hang up: what runs for a screen ends with it."""
        self.deck.ended(self, "")

    @work(group="shell", exclusive=True)
    async def live(self) -> None:
        """Show what the shell prints until it ends."""
        view, said = self.query_one(TerminalView), ""
        try:
            async with shell(self._cluster, self._key) as self._shell:
                self._state = "ends with exit"
                self.paint_bars()
                self._shell.resize(*view.size)
                async for data in self._shell.output():
                    view.feed(data)
                    await asyncio.sleep(0)  # whatever it prints, keys are heard
        except errors.Forbidden as error:
            self.deck.refused["shell"] = error.message
            said = f"not allowed: {error.message}"
        except errors.KubeError as error:
            said = str(error)
        self._shell = None
        if self.is_mounted:
            self.deck.ended(self, said)

    def _send(self, data: bytes) -> None:
        if self._shell is not None and not self._shell.send(data):
            self.flash("the sandbox takes nothing that is typed", "warn")

    def _resize(self, columns: int, lines: int) -> None:
        if self._shell is not None:
            self._shell.resize(columns, lines)
