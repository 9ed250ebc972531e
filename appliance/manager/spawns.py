"""How often each template was delivered, and when last: ``spawnCount`` and ``lastSpawnedAt`` of E2B's templates.

Counted from what the roster shows, so every replica counts the deliveries of all; written and read with the rest of
:mod:`history`, so the figures begin with the oldest manager whose memory was handed on, not with the template. Nothing
is written to the cluster for it: a delivery costs one write, and that is not this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from appliance.manager.deadlines import delivered_at
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run

MAX_TEMPLATES = 4096
"""Templates remembered; the one delivered longest ago is forgotten first."""
MAX_IDS = 20_000
"""Sandbox ids remembered as counted, so that one which is seen again, as after a failed deletion, counts once."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """Of one template."""

    count: int
    last: datetime


class Spawns:
    """An observer of the roster."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Spawned] = {}
        self._counted: dict[str, None] = {}

    def of(self, namespace: str, template: str, since: datetime) -> Spawned | None:
        """What is known of a template made at ``since``, None when it was never delivered; a namesake is forgotten."""
        known = self._known.get((namespace, template))
        if known is not None and known.last < since:
            del self._known[namespace, template]
            return None
        return known

    def all(self) -> Iterator[tuple[str, str, Spawned]]:
        """Namespace, template and figures, the most recently delivered last."""
        for (namespace, template), spawned in list(self._known.items()):
            yield namespace, template, spawned

    def restore(self, namespace: str, template: str, spawned: Spawned) -> None:
        """Take over what an earlier manager counted; before anything is counted here."""
        self._put((namespace, template), spawned)

    def recount(self, entry: Entry) -> None:
        """A sandbox that lives at the start: the earlier manager has counted it, unless it is younger than that."""
        known = self._known.get((entry.sandbox.namespace, entry.template))
        if known is None or delivered_at(entry.sandbox) > known.last:
            self.moved(entry, None, Run.RUNNING)
        else:
            self._remember(entry.sandbox_id)

    def moved(self, entry: Entry, before: Run | None, run: Run) -> None:
        """Count it when it is seen for the first time."""
        if entry.sandbox_id in self._counted:
            return
        self._remember(entry.sandbox_id)
        key, at = (entry.sandbox.namespace, entry.template), delivered_at(entry.sandbox)
        known = self._known.get(key)
        count, last = (known.count, known.last) if known is not None else (0, at)
        self._put(key, Spawned(count + 1, max(last, at)))

    def ended(self, entry: Entry, *, killed: bool) -> None:
        """Nothing: it was delivered all the same."""

    def _remember(self, sandbox_id: str) -> None:
        self._counted[sandbox_id] = None
        if len(self._counted) > MAX_IDS:
            del self._counted[next(iter(self._counted))]

    def _put(self, key: tuple[str, str], spawned: Spawned) -> None:
        self._known.pop(key, None)
        self._known[key] = spawned
        if len(self._known) > MAX_TEMPLATES:
            del self._known[next(iter(self._known))]
