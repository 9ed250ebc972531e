"""A pool as its row: what its controller reports, what its sandboxes show, and where it is heading."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

from appliance.api.states import State
from appliance.api.structs import SandboxSet
from tui.model.change import Key
from tui.model.meters import LevelHistory, RateMeter

TREND_WINDOW = 30
"""Seconds over which the drain of a pool is judged."""


@dataclass(slots=True)
class PoolBook:
    """What is counted for one (namespace, template), kept up with every change of a sandbox."""

    states: Counter[State] = field(default_factory=Counter)
    """Sandboxes of the template by state, claimed ones included."""
    members: Counter[State] = field(default_factory=Counter)
    """Only those nobody has claimed."""
    failing: int = 0
    depth: LevelHistory = field(default_factory=LevelHistory)
    claims: RateMeter = field(default_factory=RateMeter)
    hits: RateMeter = field(default_factory=RateMeter)
    refills: RateMeter = field(default_factory=RateMeter)


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One SandboxSet."""

    key: Key
    desired: int
    available: int
    creating: int
    claimed: int
    paused: int
    failing: int
    updated: int
    revision: str
    rolling: bool
    refill: float
    """Sandboxes made ready a second, last minute."""
    claim: float
    """Deliveries a second, last minute."""
    hit: float | None
    """Share of deliveries that found a warm sandbox; None without deliveries."""
    dry_in: float | None
    """Seconds until none is left at the present rates; None: it holds."""
    depth: tuple[float, ...]
    health: str
    """``failing``, ``dry``, ``low``, ``filling``, ``rolling``, ``idle`` (wants none) or ``full``; see SEVERITY."""
    lagging: bool
    """Its controller has not caught up with its spec."""
    source: SandboxSet = field(repr=False)
    text: str = field(default="", repr=False)


SEVERITY = {"failing": 0, "dry": 1, "low": 2, "filling": 3, "rolling": 4, "full": 5, "idle": 6}
"""Worst first."""


def pool_row(pool: SandboxSet, book: PoolBook, now: float) -> PoolRow:
    """The row of a set as of ``now``."""
    status = pool.status
    claims, hits = book.claims.count(now), book.hits.count(now)
    dry = seconds_until_dry(book, now)
    rolling = status.updated_replicas < status.replicas
    health = _health(pool, book, dry, rolling)
    return PoolRow(
        key=pool.key,
        desired=pool.spec.replicas,
        available=book.members[State.AVAILABLE],
        creating=book.members[State.CREATING],
        claimed=sum(book.states.values()) - sum(book.members.values()) - _dead(book),
        paused=book.states[State.PAUSED],
        failing=book.failing,
        updated=status.updated_replicas,
        revision=status.update_revision,
        rolling=rolling,
        refill=book.refills.rate(now),
        claim=book.claims.rate(now),
        hit=hits / claims if claims else None,
        dry_in=dry,
        depth=tuple(book.depth.samples),
        health=health,
        lagging=status.observed_generation < pool.meta.generation,
        source=pool,
        text=f"{pool.namespace} {pool.name} {health} {status.update_revision}".lower(),
    )


def _dead(book: PoolBook) -> int:
    return book.states[State.DEAD] - book.members[State.DEAD]


def seconds_until_dry(book: PoolBook, now: float) -> float | None:
    """Available over the net drain; None when the pool is not draining, 0 when it is empty."""
    available = book.members[State.AVAILABLE]
    drain = book.claims.rate(now, TREND_WINDOW) - book.refills.rate(now, TREND_WINDOW)
    if available == 0:
        return 0.0 if book.claims.rate(now, TREND_WINDOW) > 0 else None
    return available / drain if drain > 0 and math.isfinite(available / drain) else None


def _health(pool: SandboxSet, book: PoolBook, dry: float | None, rolling: bool) -> str:
    desired, available = pool.spec.replicas, book.members[State.AVAILABLE]
    if desired == 0:
        return "idle"
    if book.failing:
        return "failing"
    if available == 0:
        return "dry"
    if (dry is not None and dry < 30) or available * 4 < desired:
        return "low"
    if rolling:
        return "rolling"
    return "full" if available >= desired else "filling"
