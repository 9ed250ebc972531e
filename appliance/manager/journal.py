"""What happened to each sandbox: bounded, in memory, still there for a while after its end.

Fed by the roster, so a pause by the controller's timer or a wake by traffic is in it like a call of the API. It belongs
to this replica; a manager that starts in another's place goes on with what that one left (``history.py``). What a
sandbox's own programs wrote to the container's log is asked of the cluster when somebody reads (``sandbox_logs.py``),
and once more when it is killed, so that it outlives the pod.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from appliance.api import conditions, times
from appliance.manager import deadlines
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run

KEPT = 1000
"""Lines kept per sandbox; the oldest go first."""
MAX_SANDBOXES = 2000
"""Sandboxes remembered; the one that changed longest ago goes first."""
MAX_MESSAGE = 4096
"""Characters of one line."""
MAX_TEXT = 64 * 1024 * 1024
"""Characters of all lines together; beyond that the sandbox that changed longest ago goes, as above."""
LINE_COST = 400
"""What a line takes beside its text, in the same measure."""
RETENTION = timedelta(hours=1)
"""How long an ended sandbox's lines can be read."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a sandbox's log."""

    at: datetime
    message: str
    level: str = "info"
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Record:
    """The lines of one sandbox."""

    namespace: str
    template: str
    lines: deque[Line] = field(default_factory=lambda: deque(maxlen=KEPT))
    run: Run | None = None
    ended: datetime | None = None


class Journal:
    """Belongs to the loop of its roster."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._text = 0

    def find(self, sandbox_id: str) -> Record | None:
        """The record of a living sandbox, or of one that ended a short while ago."""
        record = self._records.get(sandbox_id.partition("-")[0])
        return None if record is None or self._forgotten(record) else record

    def moved(self, entry: Entry, _before: Run | None, run: Run) -> None:
        """The roster saw a sandbox in this state; only changes are written."""
        record = self._record(entry)
        before, record.run, record.ended = record.run, run, None
        message = _message(before, run) if run is not before else ""
        if message:
            at = entry.started_at if before in (None, Run.STARTING) and run is Run.RUNNING else self._now()
            self._write(entry.sandbox_id, record, [Line(at, message, fields=_facts(entry))])
        self._restarted(entry, record)

    def _restarted(self, entry: Entry, record: Record) -> None:
        """Its container was started again without its memory: told once, also where an earlier manager has told it."""
        said = conditions.find(entry.sandbox.status.conditions, conditions.RESTARTED)
        if said is None:
            return
        message = f"Sandbox restarted: {said.message}"[:MAX_MESSAGE]
        if all(line.message != message for line in record.lines):
            at = times.parse_or_none(said.last_transition_time) or self._now()
            self._write(entry.sandbox_id, record, [Line(at, message, "warn", _facts(entry))])

    def ended(self, entry: Entry, *, killed: bool) -> None:
        """The sandbox is gone: by a kill through this replica, or by its deadline, its pod's end, or elsewhere."""
        record = self._record(entry)
        if record.ended is not None:
            return
        record.ended, record.run = self._now(), Run.GONE
        end = deadlines.timers_of(entry.sandbox).end
        reason = "killed" if killed else "timeout" if end is not None and end <= self._now() else "deleted"
        message = {"killed": "Sandbox killed", "timeout": "Sandbox reached its timeout"}.get(reason, "Sandbox ended")
        self._write(entry.sandbox_id, record, [Line(record.ended, message, fields={**_facts(entry), "reason": reason})])

    def newest(self) -> list[tuple[str, Record]]:
        """Every record that can still be read, by id, the one that changed last first."""
        records = reversed(self._records.items())
        return [(sandbox_id, record) for sandbox_id, record in records if not self._forgotten(record)]

    def restore(self, sandbox_id: str, record: Record) -> None:
        """Take over what an earlier manager knew of a sandbox; it counts as the newest."""
        if not self._forgotten(record):
            if sandbox_id in self._records:
                self._forget(sandbox_id)
            self._records[sandbox_id] = record
            self._text += _cost(record.lines)
            self._bound()

    def settle(self, living: Collection[str]) -> None:
        """Sandboxes that were restored and are not among the ``living`` ids ended while nobody watched."""
        for sandbox_id, record in list(self._records.items()):
            if record.ended is None and sandbox_id not in living:
                record.ended, record.run = self._now(), Run.GONE
                facts = {**_names(sandbox_id, record.template), "reason": "deleted"}
                self._write(sandbox_id, record, [Line(record.ended, "Sandbox ended", fields=facts)])

    def add(self, sandbox_id: str, lines: Iterable[Line]) -> None:
        """Keep further lines of a known sandbox; of an unknown one they are dropped."""
        record = self._records.get(sandbox_id)
        if record is not None:
            self._write(sandbox_id, record, lines)

    def _forgotten(self, record: Record) -> bool:
        return record.ended is not None and self._now() - record.ended > RETENTION

    def _record(self, entry: Entry) -> Record:
        record = self._records.get(entry.sandbox_id)
        if record is None:
            record = self._records[entry.sandbox_id] = Record(entry.sandbox.namespace, entry.template)
            self._bound()
        return record

    def _write(self, sandbox_id: str, record: Record, lines: Iterable[Line]) -> None:
        before = _cost(record.lines)
        record.lines.extend(lines)
        if sandbox_id in self._records:
            self._records.move_to_end(sandbox_id)
            self._text += _cost(record.lines) - before
            self._bound()

    def _bound(self) -> None:
        """Forget whole sandboxes, but never the one that changed last."""
        while len(self._records) > MAX_SANDBOXES or (self._text > MAX_TEXT and len(self._records) > 1):
            self._forget(next(iter(self._records)))

    def _forget(self, sandbox_id: str) -> None:
        self._text -= _cost(self._records.pop(sandbox_id).lines)


def _cost(lines: Iterable[Line]) -> int:
    return sum(len(line.message) + LINE_COST for line in lines)


def _facts(entry: Entry) -> dict[str, str]:
    return _names(entry.sandbox_id, entry.template)


def _names(sandbox_id: str, template: str) -> dict[str, str]:
    return {"logger": "sandbox", "sandboxID": sandbox_id, "templateID": template}


def _message(before: Run | None, run: Run) -> str:
    if run is Run.RUNNING:
        return "Sandbox created" if before in (None, Run.STARTING) else "Sandbox resumed"
    return {Run.PAUSING: "Sandbox is being paused", Run.PAUSED: "Sandbox paused"}.get(run, "")
