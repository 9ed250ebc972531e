"""The background task of metrics: samples of running sandboxes and of teams.

Its cost has a ceiling, whatever the number of sandboxes: at most ``PER_ROUND`` runtimes are asked per second, those
whose last sample is oldest first. Up to a hundred running sandboxes have a sample every five seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import datetime

from appliance.manager.guest import Guests
from appliance.manager.roster import Entry, Roster
from appliance.manager.runstate import PAUSED_RUNS, Run
from appliance.manager.team_metrics import INTERVAL, TeamMetrics

ROUND = 1.0
"""Seconds between two rounds."""
PER_ROUND = 20

logger = logging.getLogger(__name__)


class Sampler:
    """``run`` until cancelled."""

    def __init__(self, roster: Roster, guests: Guests, teams: TeamMetrics, now: Callable[[], datetime]) -> None:
        self._roster = roster
        self._guests = guests
        self._teams = teams
        self._now = now
        self._next_team = 0.0

    async def run(self) -> None:
        """For ever; a round that fails is logged and the next one comes."""
        while True:
            try:
                await self.round()
            except Exception:
                logger.exception("a round of metrics failed")
            await asyncio.sleep(ROUND)

    async def round(self) -> None:
        """One round."""
        running = [entry for entry, run in self._roster.delivered() if run is Run.RUNNING and entry.address]
        now = self._now().timestamp()
        if now >= self._next_team:
            self._next_team = now + INTERVAL
            counts = Counter(entry.sandbox.namespace for entry in running)
            self._teams.sample(counts, now)
        due = self._guests.due(running)[:PER_ROUND]
        await asyncio.gather(*(self._guests.sample(entry) for entry in due))

    def moved(self, entry: Entry, before: Run | None, run: Run) -> None:
        """The roster saw a sandbox change its state."""
        if run is Run.RUNNING and before not in PAUSED_RUNS and before is not Run.RUNNING:
            self._teams.started(entry.sandbox.namespace)

    def ended(self, entry: Entry, *, killed: bool) -> None:
        """Nothing to do: its history is kept until others need the room."""
