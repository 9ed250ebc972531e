"""Deliveries through the E2B API: what sandboxes show of them, joined with what their deliverers report.

A delivery is known by its lock. Its row is made when the guarded write is seen, and made again with the true stages
when a report names the same lock, in whichever order the two arrive. Everything here is bounded by RECENT.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from appliance.api import labels
from appliance.api.claimreport import Delivery, Failure, Report
from appliance.api.states import State
from tui.model.change import Key
from tui.model.claims import ClaimRow, delivery_row, failure_row, told_row, waiting_row
from tui.model.sandboxes import SandboxRow

RECENT = 1000
"""Deliveries, failures and latencies remembered."""
LIVE_MARGIN = 5.0
"""Seconds: a stamp older than this when it arrives was not seen live."""
STALE = 30.0
"""Seconds after which a report of claims on their way is too old to be believed: its process is gone."""


class DeliveryBook:
    """Kept by the world; ``version``-less, since every change of it is one of the world's."""

    def __init__(self) -> None:
        self.rows: OrderedDict[str, ClaimRow] = OrderedDict()
        """By lock."""
        self.told: OrderedDict[str, Delivery] = OrderedDict()
        self.failures: OrderedDict[Failure, None] = OrderedDict()
        self._reports: dict[Key, Report] = {}
        self._latencies: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._unready: dict[str, tuple[SandboxRow, float | None]] = {}
        """By uid: sandboxes made for a claim that are not ready yet."""

    @property
    def latencies(self) -> list[tuple[float, float]]:
        """When claims ended and how long they took, in the order in which it became known."""
        return list(self._latencies.values())

    def delivered(self, row: SandboxRow, at: float) -> None:
        """A sandbox was handed over; ``at``: when that became known here."""
        claimed, lock = row.claimed_at or at, lock_of(row)
        live = 0 <= at - claimed < LIVE_MARGIN
        seen = at if live else None
        if row.on_demand and row.state is State.CREATING:
            self._unready[row.source.uid] = (row, seen)
        elif live:
            self.took(lock, at, at - claimed)
        self._file(lock, delivery_row(row, seen, None))

    def changed(self, row: SandboxRow, at: float) -> None:
        """A sandbox changed in another way: one made for its claim may have become ready."""
        if row.source.uid not in self._unready or row.state is State.CREATING:
            return
        first, seen = self._unready.pop(row.source.uid)
        lock = lock_of(row)
        self._file(lock, delivery_row(replace(row, claimed_at=first.claimed_at), seen, at))
        self.took(lock, at, at - (first.claimed_at or at))

    def gone(self, row: SandboxRow) -> None:
        """A sandbox was deleted."""
        self._unready.pop(row.source.uid, None)

    def report(self, key: Key, report: Report | None) -> None:
        """A process told of its claims, or its report was deleted."""
        if report is None:
            self._reports.pop(key, None)
            return
        self._reports[key] = report
        for one in report.deliveries:
            if one.lock not in self.told:
                self.told[one.lock] = one
                self._latencies.pop(one.lock, None)
                self.took(one.lock, one.at, one.total)
                if one.lock in self.rows:
                    self.rows[one.lock] = told_row(self.rows[one.lock], one)
        self.failures.update(dict.fromkeys(report.failures))
        _bound(self.told)
        _bound(self.failures)

    def took(self, name: str, at: float, seconds: float) -> None:
        """Remember a latency, unless the true one is known already."""
        if name not in self._latencies:
            self._latencies[name] = (at, seconds)
            _bound(self._latencies)

    def claim_rows(self, now: float) -> Iterable[ClaimRow]:
        """A row for every delivery and every claim that waits, and one for failures that are alike."""
        waiting = [one for report in self._reports.values() if now - report.at < STALE for one in report.waiting]
        late = {one.lock for one in waiting if one.lock} - self.told.keys()
        yield from (row for lock, row in self.rows.items() if lock not in late)
        yield from (waiting_row(one, self.rows.get(one.lock)) for one in waiting if one.lock not in self.told)
        alike: dict[tuple[str, str, str], list[Failure]] = {}
        for one in self.failures:
            alike.setdefault((one.namespace, one.template, one.error), []).append(one)
        yield from (failure_row(max(found, key=lambda one: one.at), len(found)) for found in alike.values())

    def _file(self, lock: str, row: ClaimRow) -> None:
        told = self.told.get(lock)
        self.rows[lock] = row if told is None else told_row(row, told)
        _bound(self.rows)


def lock_of(row: SandboxRow) -> str:
    """What a delivery is known by; the object's uid where there is no lock."""
    return row.source.meta.annotations.get(labels.LOCK) or row.source.uid


def _bound(kept: OrderedDict[Any, Any]) -> None:
    while len(kept) > RECENT:
        kept.popitem(last=False)
