"""The life of one sandbox as moments: what its object's stamps tell, and what was seen happening since."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.api.corestructs import Pod
from appliance.api.states import State
from appliance.api.structs import Condition
from tui.model.sandboxes import SandboxRow, epoch

MOMENTS_KEPT = 60
"""Moments remembered for one sandbox."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to a sandbox. ``tone`` is a tone of ``view.cells``."""

    at: float
    what: str
    detail: str = ""
    tone: str = ""


TONES = {
    State.CREATING: "busy",
    State.AVAILABLE: "good",
    State.RUNNING: "accent",
    State.PAUSED: "idle",
    State.DEAD: "bad",
}
"""Tone of each state, everywhere."""


def seen_moments(old: SandboxRow | None, new: SandboxRow | None, at: float) -> list[Moment]:
    """What one change means, for those who watched it happen."""
    if new is None:
        return [Moment(at, "deleted", tone="bad")]
    if old is None:
        return []
    found = []
    if new.claimed_at and new.claimed_at != old.claimed_at:
        found.append(Moment(new.claimed_at, "claimed", f"id {new.id}", "accent"))
    if new.pausing and not old.pausing:
        found.append(Moment(at, "pausing" if new.source.spec.paused else "resuming", tone="busy"))
    if new.state is not old.state:
        found.append(Moment(at, new.state.value, new.reason, TONES[new.state]))
    if new.restarts > old.restarts:
        found.append(Moment(at, "restarted", f"{new.restarts} in all", "warn"))
    if (new.end or 0) > (old.end or 0) and old.claimed_at:
        found.append(Moment(at, "timer moved", tone="dim"))
    return found


def told_moments(row: SandboxRow, pod: Pod | None) -> list[Moment]:
    """What the stamps on the objects tell of the past."""
    found = [Moment(row.created, "created", f"from {row.template}" if row.template else "", "busy")]
    for condition in pod.status.conditions if pod is not None else []:
        at = epoch(condition.last_transition_time)
        if at is not None and condition.status == "True" and condition.type in ("PodScheduled", "Ready"):
            what = "scheduled" if condition.type == "PodScheduled" else "pod ready"
            found.append(Moment(at, what, pod.spec.node_name if pod and what == "scheduled" else "", "dim"))
    if row.claimed_at is not None:
        found.append(Moment(row.claimed_at, "claimed", f"id {row.id}" if row.id else "", "accent"))
    for condition in row.source.status.conditions:
        at = epoch(condition.last_transition_time)
        if at is not None:
            found.append(Moment(at, f"{condition.type} {condition.status}", condition.reason, _tone(condition)))
    deleted = epoch(row.source.meta.deletion_timestamp)
    if deleted is not None:
        found.append(Moment(deleted, "deletion asked", tone="bad"))
    return found


def _tone(condition: Condition) -> str:
    return "good" if condition.status == "True" else ("bad" if condition.reason == "Failed" else "warn")


def timeline(told: list[Moment], seen: list[Moment]) -> list[Moment]:
    """Both, oldest first, without what is said twice."""
    known: set[tuple[str, int]] = set()
    found = []
    for moment in sorted([*told, *seen], key=lambda one: one.at):
        mark = (moment.what, int(moment.at))
        if mark not in known:
            known.add(mark)
            found.append(moment)
    return found
