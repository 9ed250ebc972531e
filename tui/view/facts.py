"""One object in words: the head of a sandbox, its conditions, events, timeline, and descriptions of all kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tui.model.change import Key
from tui.model.claims import STAGES, ClaimRow
from tui.model.pools import PoolRow
from tui.model.sandboxes import SandboxRow, epoch
from tui.model.timeline import TONES
from tui.model.world import World
from tui.view.cells import Cell, Glyphs, brief, clock, countdown, per_second, span, text
from tui.view.tables import HEALTH_TONES, ORDINARY, PHASE_TONES, STATES

NAME = 14
"""Width of the names of facts."""


def fact(name: str, value: object, tone: str = "") -> Cell:
    """One line: name and value."""
    return ((f" {name:<{NAME}} ", "dim"), (str(value), tone))


def head(row: SandboxRow, now: float, glyphs: Glyphs) -> list[Cell]:
    """What a sandbox is, in three lines."""
    state = f"{glyphs.states[STATES.index(row.state)]} {row.state.value}{' (changing)' if row.pausing else ''}"
    ends = countdown(row.end, now)
    said = row.message or ("" if row.reason in ORDINARY else row.reason)
    return [
        (
            (f" {row.key[1]} ", "header"),
            (f"  {state}", TONES[row.state]),
            (f"  {said}", "bad" if row.failing else "dim"),
        ),
        (
            (" id ", "dim"),
            (row.id or "none: in the pool", "accent" if row.id else "dim"),
            ("   template ", "dim"),
            (row.template or "-", ""),
            ("   owner ", "dim"),
            (row.owner or "-", ""),
        ),
        (
            (" age ", "dim"),
            (span(now - row.created), ""),
            ("   ends ", "dim"),
            (ends or "never", "" if ends else "dim"),
            ("   node ", "dim"),
            (row.node or "-", ""),
            ("   ip ", "dim"),
            (row.ip or "-", ""),
            ("   restarts ", "dim"),
            (str(row.restarts), "warn" if row.restarts else ""),
        ),
    ]


def timeline_lines(world: World, key: Key, glyphs: Glyphs, now: float) -> list[Cell]:
    """The life of a sandbox: when, how long after the step before, what."""
    moments = world.timeline(key)
    lines: list[Cell] = []
    before: float | None = None
    for moment in moments:
        gap = _gap(before, moment.at)
        dot = glyphs.live if moment.tone not in ("", "dim") else glyphs.dot
        lines.append(
            (
                (f" {clock(moment.at)} ", "dim"),
                (f"{gap:>8}  ", "dim"),
                (f"{dot} ", moment.tone),
                (f"{moment.what:<22} ", moment.tone),
                ("" if moment.detail in ORDINARY else moment.detail, "dim"),
            )
        )
        before = moment.at
    if before is not None:
        lines.append(((f" {clock(now)} ", "dim"), (f"{'+' + span(now - before):>8}  ", "dim"), ("  now", "dim")))
    return lines or [text(" Nothing is known of it any more.", "dim")]


def _gap(before: float | None, at: float) -> str:
    """Time between two moments, no more exact than the stamps: many tell whole seconds only."""
    if before is None or at - before < 0.0005:
        return ""
    if before.is_integer() or at.is_integer():
        return f"+{span(at - before)}" if at - before >= 1 else "+<1s"
    return f"+{brief(at - before)}"


def condition_lines(row: SandboxRow, world: World, now: float) -> list[Cell]:
    """Conditions of the sandbox and of its pod."""
    lines = _conditions("sandbox", row.source.status.conditions, now)
    pod = world.pods.get(row.key)
    if pod is not None:
        lines += [(), *_conditions("pod", pod.status.conditions, now)]
        lines += [(), *(_container(status, now) for status in pod.status.container_statuses)]
    return lines


def _conditions(title: str, found: Iterable[Any], now: float) -> list[Cell]:
    lines: list[Cell] = [text(f" {title}", "header")]
    for one in found:
        tone = "good" if one.status == "True" else "warn"
        since = epoch(one.last_transition_time)
        age = span(now - since) if since is not None else ""
        said = f"{one.reason} {one.message}".strip()
        lines.append(
            (
                (f" {one.type.rsplit('/', 1)[-1]:<20} ", ""),
                (f"{one.status:<8}", tone),
                (f"{age:>6}  ", "dim"),
                (said, "dim"),
            )
        )
    return lines if len(lines) > 1 else [*lines, text(" none", "dim")]


def _container(status: Any, now: float) -> Cell:
    state = status.state
    if state.running is not None:
        started = epoch(state.running.started_at)
        said, tone = f"running {span(now - started) if started else ''}", "good"
    elif state.terminated is not None:
        said, tone = f"ended with {state.terminated.exit_code} {state.terminated.reason}", "bad"
    else:
        said, tone = f"waiting {state.waiting.reason if state.waiting else ''}", "warn"
    return (
        (f" {status.name:<20} ", ""),
        (f"{said:<16}", tone),
        (f"  restarts {status.restart_count}  ", "dim"),
        (status.image, "dim"),
    )


def event_lines(world: World, key: Key, now: float) -> list[Cell]:
    """Cluster events about an object, oldest first."""
    lines: list[Cell] = []
    for event in world.events_about(key):
        at = epoch(event.last_timestamp or event.event_time or event.meta.creation_timestamp)
        tone = "warn" if event.type == "Warning" else ""
        lines.append(
            (
                (f" {clock(at) if at else '':<8} ", "dim"),
                (f"{event.reason:<22} ", tone),
                (event.message, ""),
                (f"  x{event.count}" if event.count > 1 else "", "dim"),
            )
        )
    return lines or [text(" No events. The cluster keeps them for about an hour.", "dim")]


def describe(world: World, row: Any, now: float, glyphs: Glyphs) -> list[Cell]:
    """Everything worth knowing about a row's object, then its events."""
    if isinstance(row, SandboxRow):
        lines = _sandbox(row, now)
    elif isinstance(row, PoolRow):
        lines = _pool(row)
    else:
        lines = _claim(row, now)
    return [*lines, (), text(" events", "header"), *event_lines(world, row.key, now)]


def _sandbox(row: SandboxRow, now: float) -> list[Cell]:
    meta, spec = row.source.meta, row.source.spec
    return [
        fact("name", row.key[1]),
        fact("namespace", row.key[0]),
        fact("id", row.id or "-"),
        fact("uid", meta.uid),
        fact("state", f"{row.state.value} ({row.reason})", TONES[row.state]),
        fact("phase", row.source.status.phase or "-"),
        fact("message", row.message or "-", "bad" if row.failing else ""),
        fact("template", row.template or "-"),
        fact(
            "pool",
            "a member" if row.member else "none: made for its claim" if row.on_demand else "left it when claimed",
        ),
        fact("owner", row.owner or "-"),
        fact("claimed at", clock(row.claimed_at) if row.claimed_at else "-"),
        fact("shutdown", _timer(row.shutdown, now)),
        fact("pause", _timer(row.pause, now)),
        fact("paused", "asked for" if spec.paused else "no"),
        fact("strategy", spec.pause_strategy.type if spec.pause_strategy else "default"),
        fact("node", row.node or "-"),
        fact("ip", row.ip or "-"),
        fact("restarts", row.restarts, "warn" if row.restarts else ""),
        (),
        text(" labels", "header"),
        *_pairs(meta.labels),
        (),
        text(" annotations", "header"),
        *_pairs(meta.annotations),
    ]


def _timer(at: float | None, now: float) -> str:
    """When a timer strikes, and how long that is from now."""
    return "never" if at is None else f"at {clock(at)}, in {countdown(at, now)}" if at > now else f"at {clock(at)}"


def _pairs(found: Mapping[str, str]) -> list[Cell]:
    return [((f" {name} = ", "dim"), (value, "")) for name, value in sorted(found.items())] or [text(" none", "dim")]


def _pool(row: PoolRow) -> list[Cell]:
    return [
        fact("name", row.key[1]),
        fact("namespace", row.key[0]),
        fact("health", row.health, HEALTH_TONES[row.health]),
        fact("wanted", row.desired),
        fact("ready", row.available),
        fact("making", row.creating),
        fact("claimed", f"{row.claimed}, {row.paused} of them paused"),
        fact("failing", row.failing, "bad" if row.failing else ""),
        fact("revision", f"{row.revision or '-'}, {row.updated} members of it"),
        fact("claims", per_second(row.claim)),
        fact("refill", per_second(row.refill)),
        fact("hits", f"{row.hit:.0%}" if row.hit is not None else "no claims in the last minute"),
        fact("dry in", span(row.dry_in) if row.dry_in is not None else "not at the present rates"),
        fact("reconciled", "not yet" if row.lagging else "yes", "warn" if row.lagging else ""),
        fact("image", ", ".join(_images(row)) or "of a SandboxTemplate"),
        (),
        text(" conditions", "header"),
        *_conditions("pool", row.source.status.conditions, 0.0)[1:],
        (),
        text(" labels", "header"),
        *_pairs(row.source.meta.labels),
    ]


def _images(row: PoolRow) -> list[str]:
    spec = (row.source.spec.template or {}).get("spec") or {}
    return [str(one.get("image", "")) for one in spec.get("containers") or []]


def _claim(row: ClaimRow, now: float) -> list[Cell]:
    told = [(name, seconds) for name, seconds in zip(STAGES, row.stages, strict=True) if seconds > 0]
    return [
        fact("name", row.key[1]),
        fact("namespace", row.key[0]),
        fact("by", "a SandboxClaim" if row.kind == "claim" else "the E2B API"),
        fact("template", row.template),
        fact("phase", row.phase, PHASE_TONES[row.phase]),
        fact("cause", row.cause),
        fact("delivered", f"{row.got} of {row.wanted} {row.how and 'from ' + row.how}"),
        fact("started", f"{clock(row.started)}, {span(now - row.started)} ago"),
        fact("took", brief(row.seconds)),
        *(fact(f"  {name}", brief(seconds)) for name, seconds in told),
        fact("sandboxes", ", ".join(row.sandboxes) or "-"),
    ]
