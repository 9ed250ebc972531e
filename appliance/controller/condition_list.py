"""Conditions as a status carries them: at most one per type, with the instant its status last changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from appliance.api import times
from appliance.api.structs import Condition


def with_condition(
    conditions: Sequence[Condition], kind: str, status: bool, reason: str, message: str, now: datetime
) -> list[Condition]:
    """A copy in which the condition ``kind`` says this; its transition time moves only when ``status`` does."""
    word = "True" if status else "False"
    old = next((item for item in conditions if item.type == kind), None)
    since = old.last_transition_time if old is not None and old.status == word else times.format(now)
    new = Condition(type=kind, status=word, reason=reason, message=message, last_transition_time=since)
    if old is None:
        return [*conditions, new]
    return [new if item.type == kind else item for item in conditions]


def without(conditions: Sequence[Condition], *kinds: str) -> list[Condition]:
    """A copy that lacks those types."""
    return [item for item in conditions if item.type not in kinds]


def as_json(conditions: Sequence[Condition]) -> list[dict[str, str]]:
    """The wire form."""
    return [
        {
            "type": item.type,
            "status": item.status,
            "reason": item.reason or "Unknown",
            "message": item.message,
            "lastTransitionTime": item.last_transition_time or "1970-01-01T00:00:00Z",
        }
        for item in conditions
    ]
