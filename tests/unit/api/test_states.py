"""The derived state of a sandbox: a table in the order of evaluation."""

from datetime import UTC, datetime, timedelta

import pytest

from appliance.api import times
from appliance.api.states import State, in_pool, sandbox_state
from appliance.api.structs import Condition, Meta, OwnerReference, Sandbox, SandboxSpec, SandboxStatus

NOW = datetime(2026, 1, 2, tzinfo=UTC)
POOL = [OwnerReference(kind="SandboxSet", name="s", uid="u", api_version="agents.kruise.io/v1alpha1", controller=True)]


def make(
    phase: str = "",
    *,
    ready: bool = False,
    pooled: bool = False,
    paused: bool = False,
    shutdown: str | None = None,
    deleted: bool = False,
) -> Sandbox:
    meta = Meta(owner_references=POOL if pooled else [], deletion_timestamp="2026-01-01T00:00:00Z" if deleted else None)
    conditions = [Condition(type="Ready", status="True" if ready else "False")]
    status = SandboxStatus(phase=phase, conditions=conditions)
    return Sandbox(meta=meta, spec=SandboxSpec(paused=paused, shutdown_time=shutdown), status=status)


PAST, FUTURE = times.format(NOW - timedelta(seconds=1)), times.format(NOW + timedelta(seconds=1))
CASES = [
    (make("Running", ready=True, deleted=True), State.DEAD, "ResourceDeleted"),
    (make("Running", ready=True, shutdown=PAST), State.DEAD, "ShutdownTimeReached"),
    (make("Running", ready=True, shutdown=times.format(NOW)), State.DEAD, "ShutdownTimeReached"),
    (make("Running", ready=True, shutdown=FUTURE), State.RUNNING, "RunningResourceClaimedAndReady"),
    (make("Running", ready=True, shutdown="soon"), State.RUNNING, "RunningResourceClaimedAndReady"),
    (make(""), State.CREATING, "ResourcePending"),
    (make("", pooled=True), State.CREATING, "ResourcePending"),
    (make("Pending", ready=True), State.CREATING, "ResourcePending"),
    (make("Succeeded", pooled=True, ready=True), State.DEAD, "ResourceSucceeded"),
    (make("Failed"), State.DEAD, "ResourceFailed"),
    (make("Terminating"), State.DEAD, "ResourceTerminating"),
    (make("Running", pooled=True, ready=True), State.AVAILABLE, "ResourceControlledBySbsAndReady"),
    (make("Running", pooled=True), State.CREATING, "ResourceControlledBySbsButNotReady"),
    (make("Recycling", pooled=True), State.CREATING, "ResourceControlledBySbsButNotReady"),
    (make("Running", paused=True, ready=True), State.PAUSED, "RunningResourceClaimedAndPaused"),
    (make("Running"), State.DEAD, "RunningResourceClaimedButNotReady"),
    (make("Paused", paused=True), State.PAUSED, "NotRunningResourceClaimed"),
    (make("Resuming"), State.PAUSED, "NotRunningResourceClaimed"),
    (make("Upgrading"), State.PAUSED, "NotRunningResourceClaimed"),
]


@pytest.mark.parametrize(("sbx", "state", "reason"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_states_follow_the_order_of_questions(sbx: Sandbox, state: State, reason: str) -> None:
    """Deletion beats time, time beats phase, phase beats ownership, ownership beats readiness."""
    assert sandbox_state(sbx, NOW) == (state, reason)


def test_only_a_controlling_sandboxset_makes_a_pool_member() -> None:
    """Owners that do not control, or are of another group, do not put a sandbox into a pool."""
    loose = [OwnerReference(kind="SandboxSet", name="s", uid="u", api_version="agents.kruise.io/v1alpha1")]
    foreign = [OwnerReference(kind="SandboxSet", name="s", uid="u", api_version="other/v1", controller=True)]
    assert in_pool(Sandbox(meta=Meta(owner_references=POOL)))
    assert not in_pool(Sandbox(meta=Meta(owner_references=loose)))
    assert not in_pool(Sandbox(meta=Meta(owner_references=foreign)))
