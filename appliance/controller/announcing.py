"""Which change of a Sandbox's status is worth an event beside the condition. Pure.

Told are troubles and restarts, once per wording, and ends. What is normal in a sandbox's youth (being created) is not.
"""

from __future__ import annotations

from dataclasses import dataclass

from appliance.api import conditions
from appliance.api.conditions import Phase, Reason
from appliance.api.structs import SandboxStatus

TROUBLES = frozenset(
    {Reason.START_CONTAINER_FAILED, Reason.UNSCHEDULABLE, Reason.NODE_NOT_READY, Reason.CONTAINER_ENDED}
)
"""Reasons of a False Ready condition that somebody should hear of while the sandbox lives."""


@dataclass(frozen=True)
class News:
    """One event."""

    reason: str
    message: str
    warning: bool = True


def news(old: SandboxStatus, new: SandboxStatus) -> News | None:
    """What to tell about the step from one status to the next; None: nothing."""
    again, told = (conditions.find(status.conditions, conditions.RESTARTED) for status in (new, old))
    if again is not None and (told is None or told.message != again.message):
        return News(conditions.RESTARTED, again.message)
    ready, before = (conditions.find(status.conditions, conditions.READY) for status in (new, old))
    if ready is None or ready.status == "True":
        return None
    if new.phase in (Phase.FAILED, Phase.SUCCEEDED):
        return None if new.phase == old.phase else News(ready.reason, new.message, new.phase == Phase.FAILED)
    known = before is not None and (before.reason, before.message) == (ready.reason, ready.message)
    return News(ready.reason, ready.message) if ready.reason in TROUBLES and not known else None
