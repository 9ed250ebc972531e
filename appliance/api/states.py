"""The one answer to "what is this sandbox?" that pool, API and routing share.

A phase says what the controller last did; a *state* says what the sandbox is good for: still being made, free to
claim, in use, paused, or gone. The order of the questions is that of the existing system, with one repair: a Sandbox
the controller has not seen yet (empty phase) is being created; there it counted as paused for a moment.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from appliance.api import conditions, times
from appliance.api.conditions import Phase
from appliance.api.labels import GROUP
from appliance.api.structs import Sandbox


class State(StrEnum):
    """Derived state of a sandbox."""

    CREATING = "creating"
    AVAILABLE = "available"
    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"


_BY_PHASE = {
    "": (State.CREATING, "ResourcePending"),
    Phase.PENDING: (State.CREATING, "ResourcePending"),
    Phase.SUCCEEDED: (State.DEAD, "ResourceSucceeded"),
    Phase.FAILED: (State.DEAD, "ResourceFailed"),
    Phase.TERMINATING: (State.DEAD, "ResourceTerminating"),
}
"""Phases that decide alone, whoever owns the sandbox."""


def sandbox_state(sbx: Sandbox, now: datetime) -> tuple[State, str]:
    """State of the sandbox at ``now`` (aware) and the reason, a CamelCase word for logs and tests.

    A claimed, running sandbox that is not Ready is dead with reason ``RunningResourceClaimedButNotReady``; the E2B
    API reports that one as running.
    """
    if sbx.meta.deletion_timestamp:
        return State.DEAD, "ResourceDeleted"
    shutdown = times.parse_or_none(sbx.spec.shutdown_time)
    if shutdown is not None and shutdown <= now:
        return State.DEAD, "ShutdownTimeReached"
    decided = _BY_PHASE.get(sbx.status.phase)
    if decided is not None:
        return decided
    ready = conditions.is_true(sbx.status.conditions, conditions.READY)
    if in_pool(sbx):
        if ready:
            return State.AVAILABLE, "ResourceControlledBySbsAndReady"
        return State.CREATING, "ResourceControlledBySbsButNotReady"
    if sbx.status.phase != Phase.RUNNING:
        return State.PAUSED, "NotRunningResourceClaimed"
    if sbx.spec.paused:
        return State.PAUSED, "RunningResourceClaimedAndPaused"
    if ready:
        return State.RUNNING, "RunningResourceClaimedAndReady"
    return State.DEAD, "RunningResourceClaimedButNotReady"


def in_pool(sbx: Sandbox) -> bool:
    """Whether a SandboxSet controls the sandbox: the marker of pool membership, removed by a claim."""
    owner = sbx.meta.controller
    return owner is not None and owner.kind == "SandboxSet" and owner.api_version.startswith(GROUP + "/")
