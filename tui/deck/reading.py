"""What is read from the cluster or from inside a sandbox when somebody looks at it."""

from __future__ import annotations

from functools import partial
from typing import Any

from textual.screen import Screen

from appliance.api import kinds
from appliance.kube import errors
from tui.deck.moving import Moving
from tui.feed import reads
from tui.model.change import Key
from tui.model.claims import ClaimRow
from tui.model.pools import PoolRow
from tui.screens.deck import DeckScreen
from tui.screens.pages import LogScreen, PageScreen
from tui.view.cells import Cell, text


class Reading(Moving):
    """YAML, logs, a shell, the output of a command."""

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


def _yaml_line(line: str) -> Cell:
    name, colon, rest = line.partition(":")
    if colon and (not rest or rest.startswith(" ")) and not name.lstrip("- ").startswith(("'", '"')):
        return ((f" {name}", "accent"), (colon, "dim"), (rest, ""))
    return text(f" {line}")
