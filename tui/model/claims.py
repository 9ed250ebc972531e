"""Claims as rows: SandboxClaim objects, deliveries through the E2B API, and those that wait for or never got one.

Where the time of a claim went is told as far as somebody tells it. The process that delivers publishes the exact stages
of its last claims (``appliance.api.claimreport``): then a row is ``told``. Before that, or when the report may not be
read, a row shows what the cluster shows: of a SandboxClaim the instants of its making, its start and its end; of an API
delivery the instant of its guarded write, and for a sandbox made for the claim when it became ready. Whole-second
stamps are replaced by the moments at which the changes arrived here. What nobody told is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from appliance.api.claimreport import Delivery, Failure, Waiting
from appliance.api.structs import SandboxClaim
from tui.model.change import Key
from tui.model.sandboxes import SandboxRow, epoch

STAGES = ("queue", "pick", "write", "ready", "init")
"""The stages of a claim, in order."""
STAGE_WORDS = {
    "waiting in line to create a sandbox": "queue",
    "picking": "pick",
    "writing": "write",
    "creating a sandbox": "write",
    "initialising the runtime": "init",
}
"""The engine's words for where a claim is, as stages; whatever it is waiting *for* belongs to ``ready``."""


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
    """``claiming``, ``done``, ``short`` (ended with less than wanted), ``timeout``, ``failed``."""
    cause: str
    """Why it waits or what became of it, in words."""
    stage: str = ""
    """Where one in flight is; one of STAGES, empty when it is not known."""
    told: bool = False
    """The stages are those of the process that delivered, not what was seen from here."""
    sandboxes: tuple[str, ...] = ()
    text: str = field(default="", repr=False)

    @property
    def title(self) -> str:
        """What it is called on screen: claims that have no sandbox have no name either."""
        if self.kind == "claim" or self.sandboxes:
            return self.key[1]
        return "(got none)" if self.ended is not None else "(no sandbox yet)"

    @property
    def seconds(self) -> float | None:
        """How long it took; None while in flight or when nobody told."""
        if self.phase == "failed" and self.ended is not None:
            return self.ended - self.started
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
    cause = f"the pool was empty: waiting for {row.key[1]} to start" if waiting else delivered_words(how)
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
        stage="ready" if waiting else "",
        sandboxes=(row.key[1],),
        text=f"{row.text} api {how}",
    )


def delivered_words(how: str, conflicts: int = 0) -> str:
    """How a delivery came about."""
    words = "made for this claim, the pool had none ready" if how == "created" else "taken from the pool"
    return words + (f", after {conflicts} lost to others" if conflicts else "")


def told_row(row: ClaimRow, told: Delivery) -> ClaimRow:
    """The row of a delivery with the stages its deliverer told."""
    stages = (told.queue, told.pick, told.write, told.ready, told.init)
    return replace(
        row,
        stages=stages,
        started=told.at - told.total,
        ended=told.at,
        got=row.wanted,
        phase="done",
        stage="",
        told=True,
        how=told.how,
        cause=delivered_words(told.how, told.conflicts),
    )


def waiting_row(waiting: Waiting, row: ClaimRow | None) -> ClaimRow:
    """A claim that has been on its way for a while; ``row``: of the sandbox being prepared for it, if there is one."""
    stage = "ready" if waiting.stage.startswith("waiting for ") else STAGE_WORDS.get(waiting.stage, "")
    if row is not None:
        return replace(row, phase="claiming", ended=None, got=0, cause=waiting.stage, stage=stage)
    name = f"{waiting.template} (no sandbox yet)"
    return ClaimRow(
        key=(waiting.namespace, f"{name} {waiting.since:.3f}"),
        kind="api",
        template=waiting.template,
        wanted=1,
        got=0,
        how="",
        started=waiting.since,
        ended=None,
        stages=(0.0,) * len(STAGES),
        phase="claiming",
        cause=waiting.stage,
        stage=stage,
        text=f"{waiting.namespace} {name} claiming {waiting.stage}".lower(),
    )


def failure_row(failure: Failure, times: int) -> ClaimRow:
    """A claim that got nothing, the last one of so many ``times``."""
    return ClaimRow(
        key=(failure.namespace, f"{failure.template} {failure.error}"),
        kind="api",
        template=failure.template,
        wanted=times,
        got=0,
        how="",
        started=failure.at - failure.took,
        ended=failure.at,
        stages=(0.0,) * len(STAGES),
        phase="failed",
        cause=f"{f'{times} times ' if times > 1 else ''}{failure.error}: {failure.message}",
        text=f"{failure.namespace} {failure.template} failed {failure.error} {failure.message}".lower(),
    )


def claim_row(
    claim: SandboxClaim,
    sight: Sighting,
    members: list[SandboxRow],
    stock: int | None,
    told: Sequence[Delivery] = (),
) -> ClaimRow:
    """The row of a SandboxClaim. ``stock``: available sandboxes of its pool, None when there is no such pool.

    ``told``: what is known of its deliveries; the slowest one is the one the claim waited for.
    """
    spec, status = claim.spec, claim.status
    created = sight.created or epoch(claim.meta.creation_timestamp) or 0.0
    begun = sight.started or epoch(status.claim_start_time)
    ended = (sight.ended or epoch(status.completion_time)) if status.phase == "Completed" else None
    got = status.claimed_replicas or len(members)
    phase = _phase(claim, got)
    delivered = sight.delivered or max((row.claimed_at for row in members if row.claimed_at), default=None)
    row_text = f"{claim.namespace} {claim.name} {spec.template_name} {phase} {status.message}".lower()
    stages = _stages(created, begun, delivered, ended)
    slowest = max(told, key=lambda one: one.total, default=None)
    return ClaimRow(
        key=claim.key,
        kind="claim",
        template=spec.template_name,
        wanted=spec.replicas,
        got=got,
        how=_how(members),
        started=created,
        ended=ended,
        stages=_joined(stages, slowest) if slowest is not None and ended is not None else stages,
        phase=phase,
        cause=_cause(claim, phase, got, stock),
        stage="" if ended is not None else "pick" if begun is not None or got else "queue",
        told=slowest is not None,
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


def _joined(seen: tuple[float, ...], told: Delivery) -> tuple[float, ...]:
    """The whole time as it was seen, cut as the slowest delivery was.

    What that does not explain was spent before the controller began, as far as it was seen to, and else picking.
    """
    spare = max(0.0, sum(seen) - told.total)
    queue = min(seen[0], spare)
    return (queue + told.queue, told.pick + spare - queue, told.write, told.ready, told.init)


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
