"""Claims as rows: SandboxClaim objects, and deliveries through the E2B API, which leave only marks on the Sandbox.

Where the time of a claim went is told as far as the cluster tells it. A SandboxClaim has instants for its making, its
first sight by the controller, each delivery and its end. A delivery through the API has the instant of its guarded
write; for a sandbox made for the claim also when it became ready. Whole-second stamps are replaced by the moments at
which the changes arrived here, when they were seen live. What nobody told is left out of the bar, never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from appliance.api.structs import SandboxClaim
from tui.model.change import Key
from tui.model.sandboxes import SandboxRow, epoch

STAGES = ("queue", "pick", "write", "ready", "init")
"""The stages of a claim, in order."""


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """One claim, in flight or recent."""

    key: Key
    """Namespace and name of the SandboxClaim, or of the delivered sandbox."""
    kind: str
    """``claim`` for a SandboxClaim, ``api`` for a delivery through the E2B API."""
    template: str
    wanted: int
    got: int
    how: str
    """``pool``, ``created`` (made for it), ``mixed``, or empty while nothing is delivered."""
    started: float
    ended: float | None
    stages: tuple[float, ...]
    """Seconds in each of STAGES; zero for those nobody told of."""
    phase: str
    """``claiming``, ``done``, ``short`` (ended with less than wanted), ``timeout``."""
    cause: str
    """Why it waits or what became of it, in words."""
    sandboxes: tuple[str, ...] = ()
    text: str = field(default="", repr=False)

    @property
    def seconds(self) -> float | None:
        """How long it took; None while in flight or when nobody told."""
        total = sum(self.stages)
        return total if self.ended is not None and total > 0 else None


@dataclass(frozen=True, slots=True)
class Sighting:
    """When the steps of a SandboxClaim were seen live; None: not seen, only told by stamps."""

    created: float | None = None
    started: float | None = None
    delivered: float | None = None
    ended: float | None = None


def delivery_row(row: SandboxRow, seen: float | None, ready: float | None) -> ClaimRow:
    """The claim behind an API delivery. ``seen``: when the write arrived here live; ``ready``: when a new one was."""
    started = row.claimed_at or row.created
    write = max(0.0, seen - started) if seen is not None else 0.0
    waited = max(0.0, ready - started - write) if row.on_demand and ready is not None else 0.0
    waiting = row.on_demand and ready is None and row.state.value == "creating"
    how = "created" if row.on_demand else "pool"
    cause = f"the pool was empty: waiting for {row.key[1]} to start" if waiting else _delivered(how)
    return ClaimRow(
        key=row.key,
        kind="api",
        template=row.template,
        wanted=1,
        got=0 if waiting else 1,
        how=how,
        started=started,
        ended=None if waiting else started + write + waited,
        stages=(0.0, 0.0, write, waited, 0.0),
        phase="claiming" if waiting else "done",
        cause=f"{cause}: {row.message}" if waiting and row.message else cause,
        sandboxes=(row.key[1],),
        text=f"{row.text} api {how}",
    )


def _delivered(how: str) -> str:
    return "made for this claim, the pool had none ready" if how == "created" else "taken from the pool"


def claim_row(claim: SandboxClaim, sight: Sighting, members: list[SandboxRow], stock: int | None) -> ClaimRow:
    """The row of a SandboxClaim. ``stock``: available sandboxes of its pool, None when there is no such pool."""
    spec, status = claim.spec, claim.status
    created = sight.created or epoch(claim.meta.creation_timestamp) or 0.0
    begun = sight.started or epoch(status.claim_start_time)
    ended = (sight.ended or epoch(status.completion_time)) if status.phase == "Completed" else None
    got = status.claimed_replicas or len(members)
    phase = _phase(claim, got)
    delivered = sight.delivered or max((row.claimed_at for row in members if row.claimed_at), default=None)
    row_text = f"{claim.namespace} {claim.name} {spec.template_name} {phase} {status.message}".lower()
    return ClaimRow(
        key=claim.key,
        kind="claim",
        template=spec.template_name,
        wanted=spec.replicas,
        got=got,
        how=_how(members),
        started=created,
        ended=ended,
        stages=_stages(created, begun, delivered, ended),
        phase=phase,
        cause=_cause(claim, phase, got, stock),
        sandboxes=tuple(one.name for one in status.claimed_sandboxes) or tuple(row.key[1] for row in members),
        text=row_text,
    )


def _stages(created: float, begun: float | None, delivered: float | None, ended: float | None) -> tuple[float, ...]:
    """Queue until the controller starts, pick until the last delivery, init until the end."""
    begun = begun if begun is not None else (ended or created)
    middle = delivered if delivered is not None else (ended or begun)
    queue, pick = max(0.0, begun - created), max(0.0, middle - begun)
    rest = max(0.0, ended - max(middle, begun)) if ended is not None else 0.0
    return (queue, pick, 0.0, 0.0, rest)


def _phase(claim: SandboxClaim, got: int) -> str:
    if claim.status.phase != "Completed":
        return "claiming"
    if got >= claim.spec.replicas:
        return "done"
    timed_out = any(one.type == "TimedOut" and one.status == "True" for one in claim.status.conditions)
    return "timeout" if timed_out else "short"


def _how(members: list[SandboxRow]) -> str:
    ways = {"created" if row.on_demand else "pool" for row in members}
    return ways.pop() if len(ways) == 1 else ("mixed" if ways else "")


def _cause(claim: SandboxClaim, phase: str, got: int, stock: int | None) -> str:
    said = claim.status.message
    if phase != "claiming":
        return said or f"{got} of {claim.spec.replicas} delivered"
    if not claim.status.phase:
        return "not seen by the controller yet"
    if stock is None:
        return f"no pool is named {claim.spec.template_name!r} in {claim.namespace}"
    if stock == 0:
        wait = "new ones are being made" if claim.spec.create_on_no_stock else "it may not make new ones"
        return f"the pool is dry; {wait}"
    return said or f"{got} of {claim.spec.replicas} delivered, {stock} more in the pool"
