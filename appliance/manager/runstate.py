"""Where a delivered sandbox is between running and paused: the derived state of ``api/states``, told apart finer.

The E2B API knows two states, but its rules (contract §1.10) need the transitions too: a pause in progress is shared, a
resume in progress refuses a pause, traffic meanwhile is told to try again.
"""

from __future__ import annotations

from datetime import datetime
from enum import Enum, auto

from appliance.api import conditions
from appliance.api.conditions import Phase, Reason
from appliance.api.labels import PAUSE_CONTENTS
from appliance.api.states import State, sandbox_state
from appliance.api.structs import Sandbox

FULL, FILESYSTEM = "full", "filesystem"
_PAUSE_MODES = {
    Reason.FREEZE_PAUSE_SUCCEED: FULL,
    Reason.SNAPSHOT_PAUSE_SUCCEED: FULL,
    Reason.STOP_PAUSE_SUCCEED: FILESYSTEM,
    Reason.FILESYSTEM_PAUSE_SUCCEED: FILESYSTEM,
}
_NOT_READY = "RunningResourceClaimedButNotReady"


class Run(Enum):
    """One delivered sandbox's place in its life."""

    STARTING = auto()
    """Claimed while being made: not yet delivered."""
    RUNNING = auto()
    """Also while it is for a moment not ready: its runtime may be restarting."""
    PAUSING = auto()
    PAUSED = auto()
    RESUMING = auto()
    """Also while it is upgraded or recycled: between two states, on its way to running."""
    GONE = auto()
    """Dead, being deleted, or back in a pool."""


PAUSED_RUNS = frozenset({Run.PAUSING, Run.PAUSED, Run.RESUMING})
"""What the API calls ``paused``."""


def run_of(sandbox: Sandbox, now: datetime) -> Run:
    """The sandbox's place at ``now`` (aware)."""
    state, reason = sandbox_state(sandbox, now)
    if state is State.RUNNING or reason == _NOT_READY:
        return Run.RUNNING
    if state is State.CREATING:
        return Run.GONE if sandbox.meta.controller is not None else Run.STARTING
    if state is not State.PAUSED:
        return Run.GONE
    if not sandbox.spec.paused:
        return Run.RESUMING
    return Run.PAUSED if is_paused(sandbox) else Run.PAUSING


def is_paused(sandbox: Sandbox) -> bool:
    """Whether a pause is complete: only from here on may it be resumed."""
    done = conditions.is_true(sandbox.status.conditions, conditions.SANDBOX_PAUSED)
    return sandbox.spec.paused and sandbox.status.phase == Phase.PAUSED and done


def is_ready(sandbox: Sandbox) -> bool:
    """Whether a resume is complete: running, and its runtime answers."""
    ready = conditions.is_true(sandbox.status.conditions, conditions.READY)
    return not sandbox.spec.paused and sandbox.status.phase == Phase.RUNNING and ready


def pause_mode(sandbox: Sandbox) -> str | None:
    """What the pause saved, as the controller reported it: a pause that loses memory is never called full."""
    found = conditions.find(sandbox.status.conditions, conditions.SANDBOX_PAUSED)
    return _PAUSE_MODES.get(found.reason) if found else None


def asked_mode(sandbox: Sandbox) -> str:
    """What the next pause, or the one under way, is to save as far as the API asked."""
    return FILESYSTEM if sandbox.meta.annotations.get(PAUSE_CONTENTS) == FILESYSTEM else FULL


def memory_lost(sandbox: Sandbox) -> bool:
    """Whether the present pause, complete or under way, loses the memory: such a sandbox is not woken by traffic."""
    mode = pause_mode(sandbox) if is_paused(sandbox) else asked_mode(sandbox)
    return sandbox.spec.paused and mode == FILESYSTEM


def pause_failure(sandbox: Sandbox, since: int) -> str | None:
    """Why the pause asked for in generation ``since`` (or later) cannot be done; None while it still may be."""
    found = conditions.find(sandbox.status.conditions, conditions.SANDBOX_PAUSED)
    if found is None or found.status != "False" or found.reason != Reason.FAILED:
        return None
    observed = max(found.observed_generation, sandbox.status.observed_generation)
    return (found.message or "no reason given") if observed >= since else None
