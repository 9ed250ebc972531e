"""Carries out an action that changes the cluster: asks what must be asked, writes to each row, says what happened."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from appliance.kube import errors
from appliance.kube.cluster import Cluster
from tui.act.deeds import DEEDS, Deed, names
from tui.act.refused import Refused
from tui.act.table import Action
from tui.screens.dialogs import Ask, Confirm

if TYPE_CHECKING:
    from tui.app import Deck
    from tui.screens.deck import DeckScreen

AT_ONCE = 8
"""Writes in flight of one bulk action."""


class Doer:
    """Runs deeds for the application and remembers what the cluster refused."""

    def __init__(self, deck: Deck) -> None:
        self._deck = deck

    async def run(self, screen: DeckScreen, action: Action, argument: str) -> None:
        """The whole course of one action; run it in a worker."""
        deed, rows = DEEDS[action.name], list(screen.targets(action))
        if not rows:
            screen.flash(f"{action.title}: nothing is selected", "warn")
            return
        answer = await self._ask(deed, rows, argument, action)
        if answer is None:
            screen.flash("cancelled")
            return
        cluster = self._deck.source.cluster
        if cluster is None:
            screen.flash(f"{action.title}: not connected", "bad")
            return
        said, failed = await self._write(cluster, deed, rows, answer, action)
        screen.flash(_report(action, said, failed), "bad" if failed else "good")
        if action.name == "upgrade" and not failed:
            screen.after_upgrade()

    async def _ask(self, deed: Deed, rows: Sequence[Any], argument: str, action: Action) -> str | None:
        """The argument, once everything asked was answered; None: cancelled."""
        if deed.prompt is not None and not argument:
            asked = Ask(deed.prompt(rows), deed.default(rows), lambda typed: deed.preview(rows, typed))
            given: str | None = await self._deck.push_screen_wait(asked)
            if given is None:
                return None
            argument = given
        if deed.confirm is not None:
            question, detail = deed.confirm(rows)
            typed = names(rows) if deed.typed and len(rows) == 1 else ""
            if not await self._deck.push_screen_wait(Confirm(question, detail, action.title, typed)):
                return None
        return argument

    async def _write(
        self, cluster: Cluster, deed: Deed, rows: Sequence[Any], argument: str, action: Action
    ) -> tuple[list[str], list[str]]:
        turns = asyncio.Semaphore(AT_ONCE)
        said: list[str] = []
        failed: list[str] = []

        async def one(row: Any) -> None:
            async with turns:
                try:
                    said.append(await deed.do(cluster, row, argument, self._deck.source.now()))
                except Refused as error:
                    failed.append(str(error))
                except errors.Forbidden as error:
                    self._deck.refused[action.name] = error.message
                    failed.append(f"not allowed: {error.message}")
                except errors.Conflict:
                    failed.append(f"{row.key[1]} changed meanwhile; look again")
                except errors.NotFound:
                    failed.append(f"{row.key[1]} is gone already")
                except errors.KubeError as error:
                    failed.append(f"{row.key[1]}: {error}")

        await asyncio.gather(*(one(row) for row in rows))
        return said, failed


def _report(action: Action, said: Sequence[str], failed: Sequence[str]) -> str:
    """One line for one or many."""
    if not failed:
        return said[0] if len(said) == 1 else f"{action.title}: {len(said)} done"
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    done = f"; {len(said)} done" if said else ""
    return f"{failed[0]}{more}{done}"
