"""Lines above tables and in the overview: the whole fleet in a few numbers and graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from appliance.api.states import State
from tui.model.alerts import WatchHealth
from tui.model.change import OPTIONAL
from tui.model.meters import percentile
from tui.model.pools import PoolRow
from tui.model.timeline import TONES
from tui.model.world import World
from tui.view.cells import Cell, Glyphs, Piece, brief, per_second, spark, stacked, text
from tui.view.tables import STAGE_TONES, STATES

LATENCY_WINDOW = 300.0
"""Seconds of the percentiles."""
NARROW = 60
"""Columns below which words give way to glyphs."""
STEP = 10.0
"""Seconds of one bar of latency over time."""


def latency_line(world: World, now: float, glyphs: Glyphs, width: int) -> Cell:
    """p50 and p99 of the last five minutes, and the p99 of every ten seconds as a graph."""
    recent = [(at, took) for at, took in world.latencies if now - at <= LATENCY_WINDOW]
    half, most = (percentile((took for _, took in recent), share) for share in (0.5, 0.99))
    bars = round(LATENCY_WINDOW / STEP)
    steps: list[list[float]] = [[] for _ in range(bars)]
    for at, took in recent:
        steps[min(bars - 1, max(0, bars - 1 - int((now - at) / STEP)))].append(took)
    graph = spark([percentile(step, 0.99) or 0.0 for step in steps], min(bars, max(0, width - 48)), glyphs)
    return (
        (" latency ", "dim"),
        (f"p50 {brief(half)}", "good" if half is not None else "dim"),
        ("  ", ""),
        (f"p99 {brief(most)}", "accent" if most is not None else "dim"),
        (f"  {len(recent)} in 5 min  ", "dim"),
        (graph, "accent"),
    )


def claim_summary(world: World, watches: Iterable[WatchHealth], now: float, glyphs: Glyphs, width: int) -> list[Cell]:
    """Latency, and what the colours of the bars mean."""
    if width < NARROW:
        return [latency_line(world, now, glyphs, width)]
    legend: list[Piece] = [(" spent on: ", "dim")]
    pairs = zip(glyphs.stages, STAGE_TONES.items(), strict=True)
    legend += [(f"{glyph} {name}  ", tone) for glyph, (name, tone) in pairs]
    if any(one.plural in OPTIONAL and one.state == "forbidden" for one in watches):
        legend.append(("you may not read the claim reports: ~ is what was seen from here", "dim"))
    elif width >= 100:
        legend.append(("~ seen from here, not told by who delivered", "dim"))
    return [latency_line(world, now, glyphs, width), tuple(legend)]


def fleet(world: World, pools: Sequence[PoolRow], now: float, glyphs: Glyphs, width: int) -> list[Cell]:
    """The overview's head: sandboxes by state, rates, latency."""
    states = [(float(world.states[state]), TONES[state]) for state in STATES]
    total = sum(world.states.values())
    counts: list[Piece] = [(f" {total} sandbox{'es'[: 2 * (total != 1)]} ", "")]
    for state in STATES:
        if world.states[state] or state in (State.AVAILABLE, State.RUNNING):
            glyph = glyphs.states[STATES.index(state)]
            word = f" {state.value}" if width >= NARROW else ""
            counts.append((f"  {glyph} {world.states[state]}{word}", TONES[state]))
    bar = stacked(states, max(10, width - 2), glyphs.fleet) if total else text("no sandboxes", "dim")
    return [
        tuple(counts),
        ((" ", ""), *bar),
        _rates(world, pools, now, glyphs, width),
        _latency(world, now, glyphs, width),
    ]


def _latency(world: World, now: float, glyphs: Glyphs, width: int) -> Cell:
    return latency_line(world, now, glyphs, width)


def _rates(world: World, pools: Sequence[PoolRow], now: float, glyphs: Glyphs, width: int) -> Cell:
    claims = [book.claims for book in world.books.values()]
    hits = sum(book.hits.count(now) for book in world.books.values())
    count = sum(meter.count(now) for meter in claims)
    series = [sum(parts) for parts in zip(*(meter.series(now, 48) for meter in claims), strict=True)]
    graph = spark(series, min(48, max(0, width - 60)), glyphs)
    rate = f"{hits / count:.0%} from pools" if count else "none in the last minute"
    made = (
        (" claims  ", "dim"),
        (per_second(sum(meter.rate(now) for meter in claims)), "accent"),
        (f"  {rate}  ", "dim"),
    )
    if width < NARROW:
        return made
    return (
        *made,
        ("refill ", "dim"),
        (per_second(sum(row.refill for row in pools)), "good"),
        ("  ", ""),
        (graph, "accent"),
    )
