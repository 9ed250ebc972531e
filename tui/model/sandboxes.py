"""A Sandbox as its row: everything a screen filters, sorts or shows, worked out once when the object changes.

Ten thousand rows are shown and sorted several times a second, so nothing here is worked out while painting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from appliance.api import conditions, labels, times
from appliance.api.corestructs import Pod
from appliance.api.states import State, in_pool, sandbox_state
from appliance.api.structs import Condition, Sandbox
from tui.model.change import Key


@dataclass(frozen=True, slots=True)
class SandboxRow:
    """One sandbox; instants are seconds since the epoch."""

    key: Key
    id: str
    """Id of the delivery; empty in the pool."""
    state: State
    pausing: bool
    """Asked to pause, or to resume, and not there yet."""
    reason: str
    message: str
    template: str
    owner: str
    created: float
    claimed_at: float | None
    shutdown: float | None
    pause: float | None
    node: str
    ip: str
    restarts: int
    member: bool
    """Belongs to a pool (nobody has it)."""
    on_demand: bool
    """Made for its claim rather than taken from the pool."""
    failing: bool
    source: Sandbox = field(repr=False)
    text: str = field(default="", repr=False)
    """Lower-case words a filter looks in."""

    @property
    def end(self) -> float | None:
        """The next timer."""
        ends = [one for one in (self.shutdown, self.pause) if one is not None]
        return min(ends) if ends else None


FAILING = frozenset({conditions.Reason.START_CONTAINER_FAILED, conditions.Reason.POD_CREATE_FAILED, "PodOwnerMismatch"})
"""Reasons of a Ready condition that waiting will not heal."""


def epoch(text: str | None) -> float | None:
    """An RFC 3339 instant as seconds since the epoch; None when absent or unreadable."""
    instant = times.parse_or_none(text)
    return None if instant is None else instant.timestamp()


def sandbox_row(sandbox: Sandbox, at: float, restarts: int) -> SandboxRow:
    """The row of a sandbox as of ``at``."""
    state, reason = sandbox_state(sandbox, datetime.fromtimestamp(at, UTC))
    meta, spec, status = sandbox.meta, sandbox.spec, sandbox.status
    ready = conditions.find(status.conditions, conditions.READY)
    told = ready.reason if ready is not None and ready.status != "True" and ready.reason else ""
    template = meta.labels.get(labels.TEMPLATE) or (spec.template_ref.name if spec.template_ref else "")
    row = SandboxRow(
        key=sandbox.key,
        id=meta.labels.get(labels.SANDBOX_ID, ""),
        state=state,
        pausing=_in_transition(sandbox, state),
        reason=told or reason,
        message=status.message or (ready.message if ready is not None and told else "") or _updating(status.conditions),
        template=template,
        owner=meta.annotations.get(labels.OWNER, ""),
        created=epoch(meta.creation_timestamp) or at,
        claimed_at=epoch(meta.annotations.get(labels.CLAIM_TIMESTAMP)),
        shutdown=epoch(spec.shutdown_time),
        pause=epoch(spec.pause_time),
        node=status.node_name,
        ip=status.sandbox_ip,
        restarts=restarts,
        member=in_pool(sandbox),
        on_demand=labels.PRIORITY in meta.annotations,
        failing=status.phase == "Failed" or told in FAILING,
        source=sandbox,
    )
    return replace(row, text=_words(row))


def _updating(found: Sequence[Condition]) -> str:
    """What is to be said of an update in place that is on its way or did not succeed."""
    update = conditions.find(found, conditions.INPLACE_UPDATE)
    if update is None or update.status == "True":
        return ""
    return f"update in place: {update.message or update.reason}"


def _in_transition(sandbox: Sandbox, state: State) -> bool:
    if state is State.DEAD or sandbox.status.phase in ("", "Pending"):
        return False
    if sandbox.spec.paused:
        return not conditions.is_true(sandbox.status.conditions, conditions.SANDBOX_PAUSED)
    return sandbox.status.phase in ("Paused", "Resuming")


def _words(row: SandboxRow) -> str:
    words = (*row.key, row.id, row.state.value, row.template, row.owner, row.node, row.ip, row.reason, row.message)
    return " ".join(words).lower()


def restarts_of(pod: Pod | None) -> int:
    """Container restarts of a pod."""
    return sum(status.restart_count for status in pod.status.container_statuses) if pod is not None else 0
