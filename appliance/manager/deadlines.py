"""Timers, as pure arithmetic: a time-out in seconds in, ``spec.shutdownTime`` and ``spec.pauseTime`` out.

A sandbox that is killed on time-out has a shutdownTime. One that is paused has a pauseTime, and a shutdownTime only
when paused sandboxes are kept for a limited time (annotation RESERVE_PAUSED). Kubernetes keeps whole seconds, so
deadlines are rounded up: a sandbox never lives shorter than asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from appliance.api import conditions, times
from appliance.api.labels import CLAIM_TIMESTAMP, RESERVE_PAUSED
from appliance.api.structs import Sandbox
from appliance.manager.options import Options, options_of
from appliance.manager.runstate import PAUSED_RUNS, Run

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""``endAt`` of a sandbox without timers, as the existing system reports it."""
FOREVER = "forever"


@dataclass(frozen=True)
class Timers:
    """The two instants of a Sandbox's spec; None: not set."""

    shutdown: datetime | None = None
    pause: datetime | None = None

    def patch(self) -> dict[str, str | None]:
        """The spec fields of a merge patch; null removes a timer."""
        return {"shutdownTime": _text(self.shutdown), "pauseTime": _text(self.pause)}

    @property
    def end(self) -> datetime | None:
        """When the present run ends."""
        return self.pause or self.shutdown


def timers_of(sandbox: Sandbox) -> Timers:
    """The timers that are set now."""
    spec = sandbox.spec
    return Timers(shutdown=times.parse_or_none(spec.shutdown_time), pause=times.parse_or_none(spec.pause_time))


def running(now: datetime, timeout: float, *, auto_pause: bool, retention: timedelta | None) -> Timers:
    """Timers of a run that ends ``timeout`` seconds from now; ``retention`` None keeps paused ones for ever."""
    end = _ceil(now + timedelta(seconds=timeout))
    if not auto_pause:
        return Timers(shutdown=end)
    return Timers(pause=end, shutdown=None if retention is None else end + retention)


def of_run(sandbox: Sandbox, now: datetime, timeout: float, auto_pause: bool | None = None) -> Timers:
    """Timers of a run of this sandbox; ``auto_pause`` replaces its own setting when given."""
    chosen = options_of(sandbox).auto_pause if auto_pause is None else auto_pause
    return running(now, timeout, auto_pause=chosen, retention=retention_of(sandbox))


def paused(now: datetime, sandbox: Sandbox, options: Options, retention: timedelta | None = None) -> Timers:
    """Timers while paused. Without our options (a SandboxClaim's sandbox) its own shutdownTime stays.

    ``retention`` replaces what the sandbox's annotation says.
    """
    retention = retention or retention_of(sandbox)
    if retention is not None:
        return Timers(shutdown=_ceil(now + retention))
    return Timers() if options.present else Timers(shutdown=timers_of(sandbox).shutdown)


def retention_of(sandbox: Sandbox) -> timedelta | None:
    """How long a paused sandbox is kept; None: for ever."""
    text = sandbox.meta.annotations.get(RESERVE_PAUSED, FOREVER)
    try:
        return None if text == FOREVER else times.parse_duration(text)
    except ValueError:
        return None


def extended(old: Timers, new: Timers) -> Timers | None:
    """``new`` if it ends later than ``old``, else None: connect and refresh never shorten a life."""
    if old.end is None or new.end is None:
        return None
    return new if new.end > old.end else None


def end_at(sandbox: Sandbox, run: Run) -> datetime:
    """E2B's ``endAt``: when the run will end, or did, for a paused one."""
    if run in PAUSED_RUNS:
        condition = conditions.find(sandbox.status.conditions, conditions.SANDBOX_PAUSED)
        when = times.parse_or_none(condition.last_transition_time) if condition else None
        if when is not None:
            return when
    return timers_of(sandbox).end or (NEVER if run not in PAUSED_RUNS else started_at(sandbox, Options()))


def started_at(sandbox: Sandbox, options: Options) -> datetime:
    """E2B's ``startedAt``: the delivery, or the last resume."""
    return times.parse_or_none(options.started_at) or delivered_at(sandbox)


def delivered_at(sandbox: Sandbox) -> datetime:
    """When its client was given it."""
    text = sandbox.meta.annotations.get(CLAIM_TIMESTAMP)
    return times.parse_or_none(text) or times.parse_or_none(sandbox.meta.creation_timestamp) or NEVER


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else times.format(instant)


def _ceil(instant: datetime) -> datetime:
    whole = instant.replace(microsecond=0)
    return whole if whole == instant else whole + timedelta(seconds=1)
