"""``shutdownTime`` and ``pauseTime``: when they strike, whatever the phase (a failed sandbox ends on time too)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from appliance.api import labels, times
from appliance.api.conditions import Phase
from appliance.api.structs import Sandbox

FOREVER = timedelta(days=36500)
"""What the retention ``forever`` amounts to: a hundred years."""


class Stroke(StrEnum):
    """What a timer demands."""

    DELETE = "delete"
    PAUSE = "pause"


@dataclass(frozen=True)
class Due:
    """What is due now, and the seconds until the next timer (None: none is set)."""

    stroke: Stroke | None
    next: float | None = None


def due(sandbox: Sandbox, now: datetime) -> Due:
    """Which timer strikes. With paused retention, pausing comes before deleting when both are due."""
    spec = sandbox.spec
    shutdown, pause = times.parse_or_none(spec.shutdown_time), times.parse_or_none(spec.pause_time)
    ended = sandbox.status.phase in (Phase.FAILED, Phase.SUCCEEDED)
    pausable = pause is not None and not spec.paused and not ended
    pause_due = pausable and pause is not None and pause <= now
    if shutdown is not None and shutdown <= now:
        keep = pause_due and retention(sandbox) is not None
        return Due(Stroke.PAUSE if keep else Stroke.DELETE)
    if pause_due:
        return Due(Stroke.PAUSE)
    waiting = [instant for instant in (shutdown, pause if pausable else None) if instant is not None]
    return Due(None, min((instant - now).total_seconds() for instant in waiting) if waiting else None)


def retention(sandbox: Sandbox) -> timedelta | None:
    """How long a paused sandbox is kept, from its annotation; None when absent or unreadable."""
    text = sandbox.meta.annotations.get(labels.RESERVE_PAUSED, "")
    if not text:
        return None
    if text == "forever":
        return FOREVER
    try:
        return times.parse_duration(text)
    except ValueError:
        return None


def pause_patch(sandbox: Sandbox, now: datetime) -> dict[str, Any]:
    """The merge patch of an automatic pause; with retention the timers start anew, so that it is kept that long."""
    spec: dict[str, Any] = {"paused": True}
    keep = retention(sandbox)
    if keep is not None and sandbox.spec.shutdown_time:
        spec["shutdownTime"] = spec["pauseTime"] = times.format(now + keep)
    return {"spec": spec}
