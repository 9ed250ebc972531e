"""The tables of the flight deck: which columns pools, sandboxes and claims have, and what stands in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from appliance.api.states import State
from tui.model.claims import STAGES, ClaimRow
from tui.model.pools import SEVERITY, PoolRow
from tui.model.sandboxes import SandboxRow
from tui.model.timeline import TONES
from tui.model.world import World
from tui.view.cells import Cell, brief, countdown, number, per_second, span, spark, stacked, text
from tui.view.columns import Column, Ink, Order

STATES = list(State)
HEALTH_TONES = {
    "dry": "bad",
    "failing": "bad",
    "low": "warn",
    "filling": "busy",
    "rolling": "busy",
    "full": "good",
    "idle": "dim",
}
STAGE_TONES = dict(zip(STAGES, ("warn", "idle", "accent", "busy", "good"), strict=True))
PHASE_TONES = {"claiming": "busy", "done": "good", "short": "warn", "timeout": "bad", "failed": "bad"}


@dataclass(frozen=True)
class Table:
    """One live table."""

    name: str
    title: str
    columns: tuple[Column[Any], ...]
    rows: Callable[[World, float], list[Any]]
    order: Order
    empty: str
    """What to say when there is nothing, and what to do about it."""


ORDINARY = frozenset(
    {
        "ResourceControlledBySbsAndReady",
        "RunningResourceClaimedAndReady",
        "RunningResourceClaimedAndPaused",
        "ResourcePending",
    }
)
"""Reasons that say no more than the state does."""


# Pools ------------------------------------------------------------------------------------------------------------
def _health(row: PoolRow, ink: Ink) -> Cell:
    return text(row.health, HEALTH_TONES[row.health])


def _available(row: PoolRow, ink: Ink) -> Cell:
    tone = "bad" if row.available == 0 < row.desired else "good" if row.available >= row.desired else "warn"
    return number(row.available, tone)


def _updated(row: PoolRow, ink: Ink) -> Cell:
    return text(row.updated, "busy" if row.rolling else "")


def _hit(row: PoolRow, ink: Ink) -> Cell:
    if row.hit is None:
        return text("-", "dim")
    return text(f"{row.hit:.0%}", "good" if row.hit >= 0.95 else "warn" if row.hit >= 0.5 else "bad")


def _dry(row: PoolRow, ink: Ink) -> Cell:
    if row.available == 0 < row.desired:
        return text("now", "bad")
    if row.dry_in is None:
        return text(ink.glyphs.never, "dim")
    return text(span(row.dry_in), "bad" if row.dry_in < 30 else "warn")


def _depth(row: PoolRow, ink: Ink) -> Cell:
    return text(spark(row.depth, ink.width, ink.glyphs, float(row.desired)), HEALTH_TONES[row.health])


POOL_COLUMNS: tuple[Column[PoolRow], ...] = (
    Column("name", "POOL", 16, lambda r, i: text(r.key[1]), lambda r: r.key[1], "N", rank=0, grow=True, most=32),
    Column("namespace", "NAMESPACE", 10, lambda r, i: text(r.key[0], "dim"), lambda r: r.key[0], rank=4),
    Column("health", "HEALTH", 8, _health, lambda r: SEVERITY[r.health], "H", rank=0),
    Column("desired", "WANT", 5, lambda r, i: number(r.desired), lambda r: r.desired, "W", True, 1, False, True),
    Column("available", "READY", 5, _available, lambda r: r.available, "A", True, 0),
    Column("creating", "MAKING", 6, lambda r, i: number(r.creating, "busy"), lambda r: r.creating, "C", True, 1),
    Column("claimed", "CLAIMED", 7, lambda r, i: number(r.claimed, "accent"), lambda r: r.claimed, "L", True, 1),
    Column("paused", "PAUSED", 6, lambda r, i: number(r.paused, "idle"), lambda r: r.paused, "P", True, 5),
    Column("failing", "FAIL", 4, lambda r, i: number(r.failing, "bad"), lambda r: r.failing, "F", True, 3, False, True),
    Column("dry", "DRY IN", 6, _dry, lambda r: r.dry_in, "D", True, 1),
    Column("claim", "CLAIMS", 6, lambda r, i: text(per_second(r.claim)), lambda r: r.claim, "R", True, 2, False, True),
    Column("refill", "REFILL", 6, lambda r, i: text(per_second(r.refill)), lambda r: r.refill, "", True, 3),
    Column("hit", "HITS", 5, _hit, lambda r: r.hit, "T", True, 2),
    Column("updated", "UPD", 4, _updated, lambda r: r.updated, "U", True, 5),
    Column("revision", "REVISION", 10, lambda r, i: text(r.revision, "dim"), lambda r: r.revision, "V", rank=6),
    Column("depth", "DEPTH, 5 MIN", 16, _depth, lambda r: r.available, right=True, rank=2, grow=True),
)


# Sandboxes --------------------------------------------------------------------------------------------------------
def _state(row: SandboxRow, ink: Ink) -> Cell:
    glyph = ink.glyphs.states[STATES.index(row.state)]
    word = ("pausing" if row.source.spec.paused else "resuming") if row.pausing else row.state.value
    return text(f"{glyph} {word}", "busy" if row.pausing else "bad" if row.failing else TONES[row.state])


def _end(row: SandboxRow, ink: Ink) -> Cell:
    if row.end is None:
        return text("")
    left = row.end - ink.now
    word = "kill" if row.pause is None or (row.shutdown is not None and row.shutdown <= row.pause) else "pause"
    return text(f"{word} {countdown(row.end, ink.now)}", "bad" if left < 10 else "warn" if left < 60 else "")


def _reason(row: SandboxRow, ink: Ink) -> Cell:
    said = row.message or ("" if row.reason in ORDINARY else row.reason)
    return text(said, "bad" if row.failing else "dim")


def _restarts(row: SandboxRow, ink: Ink) -> Cell:
    return number(row.restarts, "warn")


SANDBOX_COLUMNS: tuple[Column[SandboxRow], ...] = (
    Column("name", "SANDBOX", 23, lambda r, i: text(r.key[1]), lambda r: r.key[1], "N", rank=0, grow=True, most=32),
    Column("namespace", "NAMESPACE", 10, lambda r, i: text(r.key[0], "dim"), lambda r: r.key[0], rank=6),
    Column("state", "STATE", 11, _state, lambda r: STATES.index(r.state), "S", rank=0),
    Column("age", "AGE", 5, lambda r, i: text(span(i.now - r.created)), lambda r: -r.created, "A", True, 1),
    Column("end", "ENDS", 11, _end, lambda r: r.end, "E", False, 1),
    Column("id", "ID", 21, lambda r, i: text(r.id, "accent"), lambda r: r.id or None, "I", rank=3),
    Column("template", "TEMPLATE", 16, lambda r, i: text(r.template), lambda r: r.template, "T", rank=4),
    Column("owner", "OWNER", 12, lambda r, i: text(r.owner, "dim"), lambda r: r.owner or None, "O", rank=5),
    Column("node", "NODE", 8, lambda r, i: text(r.node), lambda r: r.node or None, "D", rank=4),
    Column("ip", "IP", 13, lambda r, i: text(r.ip, "dim"), lambda r: r.ip or None, "P", rank=5),
    Column("restarts", "RST", 3, _restarts, lambda r: r.restarts, "R", True, 3, False, True),
    Column("reason", "REASON", 16, _reason, lambda r: r.reason, "Z", rank=2, grow=True),
)


# Claims -----------------------------------------------------------------------------------------------------------
def _took(row: ClaimRow, ink: Ink) -> Cell:
    if row.ended is None:
        return text(brief(max(0.0, ink.now - row.started)), "busy")
    if row.seconds is None:
        return text("-", "dim")
    return (
        text(brief(row.seconds))
        if row.told or row.kind == "claim" or row.phase == "failed"
        else text(f"~{brief(row.seconds)}", "dim")
    )


def _bar(row: ClaimRow, ink: Ink) -> Cell:
    stages = list(row.stages)
    if row.ended is None:
        waited = max(0.0, ink.now - row.started) - sum(stages)
        stages[STAGES.index(row.stage) if row.stage else 0] += max(0.0, waited)
    shares = [(value, STAGE_TONES[name]) for name, value in zip(STAGES, stages, strict=True)]
    return stacked(shares, ink.width, ink.glyphs.stages, least=0.5)


def _slowest(row: ClaimRow, ink: Ink) -> Cell:
    longest = max(range(len(STAGES)), key=lambda index: row.stages[index])
    return text(STAGES[longest], STAGE_TONES[STAGES[longest]]) if row.stages[longest] > 0 else text("")


def _named(row: ClaimRow, ink: Ink) -> Cell:
    return text(row.title, "" if row.kind == "claim" or row.sandboxes else "dim")


def _got(row: ClaimRow, ink: Ink) -> Cell:
    return text(f"{row.got}/{row.wanted}", "" if row.got >= row.wanted else "warn")


CLAIM_COLUMNS: tuple[Column[ClaimRow], ...] = (
    Column("name", "CLAIM", 23, _named, lambda r: r.key[1], "N", rank=0),
    Column("namespace", "NAMESPACE", 10, lambda r, i: text(r.key[0], "dim"), lambda r: r.key[0], rank=6),
    Column("kind", "BY", 5, lambda r, i: text(r.kind, "dim"), lambda r: r.kind, "B", rank=4),
    Column("phase", "PHASE", 8, lambda r, i: text(r.phase, PHASE_TONES[r.phase]), lambda r: r.phase, "P", rank=0),
    Column("template", "TEMPLATE", 16, lambda r, i: text(r.template), lambda r: r.template, "T", rank=5),
    Column("got", "GOT", 5, _got, lambda r: r.got, "Q", True, 2),
    Column("how", "FROM", 7, lambda r, i: text(r.how), lambda r: r.how, "F", rank=3),
    Column("age", "AGE", 5, lambda r, i: text(span(i.now - r.started)), lambda r: -r.started, "A", True, 1),
    Column("took", "TOOK", 7, _took, lambda r: r.seconds, "L", True, 0, False, True),
    Column("bar", "SPENT ON", 9, _bar, lambda r: r.seconds, rank=1, grow=True, most=12),
    Column("slowest", "MOSTLY", 6, _slowest, lambda r: max(r.stages), rank=4),
    Column("cause", "CAUSE", 19, lambda r, i: text(r.cause, "dim"), lambda r: r.cause, "C", rank=1, grow=True),
)


POOLS = Table(
    "pools",
    "Pools",
    POOL_COLUMNS,
    lambda world, now: world.pool_rows(now),
    Order("name"),
    "No pools yet. A pool is a SandboxSet: appliance apply -f sandboxset.yaml",
)
SANDBOXES = Table(
    "sandboxes",
    "Sandboxes",
    SANDBOX_COLUMNS,
    lambda world, now: world.sandbox_rows(),
    Order("name"),
    "No sandboxes. They appear as soon as a pool wants some.",
)
CLAIMS = Table(
    "claims",
    "Claims",
    CLAIM_COLUMNS,
    lambda world, now: world.claim_rows(now),
    Order(),
    "Nothing was claimed yet. Sandbox.create() of an E2B SDK, or a SandboxClaim, shows up here.",
)
TABLES = {table.name: table for table in (POOLS, SANDBOXES, CLAIMS)}
