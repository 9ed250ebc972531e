"""The lines around every screen: title, tabs and key bar, as pure functions of what is going on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from appliance.api.states import State
from tui.act.table import Action
from tui.feed.replay import Player
from tui.feed.source import Source
from tui.model.alerts import WatchHealth
from tui.model.change import OPTIONAL
from tui.model.timeline import TONES
from tui.view.cells import Cell, Glyphs, Piece, clock, span

TABS = (
    ("1", "overview", "Overview"),
    ("2", "pools", "Pools"),
    ("3", "sandboxes", "Sandboxes"),
    ("4", "claims", "Claims"),
)
WORST = ("unauthorized", "lost", "missing", "forbidden", "connecting", "live")
WORDS = {
    "live": ("live", "good"),
    "connecting": ("connecting", "busy"),
    "lost": ("connection lost", "bad"),
    "unauthorized": ("credentials refused", "bad"),
    "missing": ("kinds missing", "bad"),
    "forbidden": ("partly forbidden", "warn"),
}


@dataclass(frozen=True)
class Situation:
    """What the bars tell about besides the source."""

    namespace: str | None
    readonly: bool
    recording: bool
    crumbs: str
    filter: str
    count: str


def condition(watches: Sequence[WatchHealth]) -> WatchHealth:
    """The watch that is worst off."""
    return min((one for one in watches if one.plural not in OPTIONAL), key=lambda one: WORST.index(one.state))


def title_line(source: Source, situation: Situation, glyphs: Glyphs, width: int) -> Cell:
    """Product, cluster and namespace on the left; state of the watches and time on the right."""
    now = source.now()
    left: list[Piece] = [(" ", "")]
    if width >= 60:
        left = [(" appliance ", "header"), (" ", ""), (source.label, "accent"), (" ", "")]
    left += [(situation.namespace or ("all namespaces" if width >= 60 else "all"), ""), (" ", "")]
    for state in State:
        count = source.world.states[state]
        if count and width >= 100:
            left.append((f" {glyphs.states[list(State).index(state)]}{count}", TONES[state]))
    right = [*_flags(situation), *_health(source, glyphs, now), (f" {clock(now)} ", "dim")]
    return spread(left, right, width)


def _flags(situation: Situation) -> Iterable[Piece]:
    if situation.recording:
        yield " REC ", "bad"
    if situation.readonly:
        yield " read-only ", "warn"


def _health(source: Source, glyphs: Glyphs, now: float) -> Iterable[Piece]:
    if isinstance(source, Player):
        yield f" {'held' if source.paused else 'playing'} x{source.speed:g} {source.progress:.0%}", "busy"
        return
    worst = condition(source.health())
    word, tone = WORDS[worst.state]
    lags = [one.lag for one in source.health() if one.lag is not None]
    detail = f" {max(lags) * 1000:.0f}ms" if worst.state == "live" and lags else ""
    since = f" for {span(now - worst.since)}" if worst.state in ("lost", "unauthorized") else ""
    yield f" {glyphs.live if tone == 'good' else glyphs.warning} {word}{detail}{since}", tone


def tab_line(screen: str, situation: Situation, width: int) -> Cell:
    """The four screens, where we are, and what is filtered."""
    right: list[Piece] = [(f" {situation.filter}", "warn")] if situation.filter else []
    right.append((f" {situation.count} ", "dim"))
    crumbs: list[Piece] = [(f" {situation.crumbs} ", "accent")] if situation.crumbs else []
    left = [*_tabs(screen, True), *crumbs]
    if sum(cell_len(words) for words, _ in (*left, *right)) > width:
        left = [*_tabs(screen, False), *crumbs]
    return spread(left, right, width)


def _tabs(screen: str, named: bool) -> Iterable[Piece]:
    """The four screens; without names only the one that is shown is named."""
    for key, name, title in TABS:
        shown = f" {title}" if named or name == screen else ""
        yield f" {key}{shown} ", "cursor" if name == screen else "dim"


def key_bar(actions: Sequence[Action], refused: dict[str, str], width: int) -> Cell:
    """The keys worth knowing here, as many as fit, help in any case; refused ones are red."""
    ordered = sorted(actions, key=lambda action: action.name != "help")
    pieces: list[Piece] = []
    used = 0
    for action in ordered:
        key, title = action.shown_keys.split(" ")[0], action.title.split(",")[0].split(":")[0]
        length = len(key) + len(title) + 3
        if used + length > width:
            break
        pieces += [(f" {key}", "accent"), (f" {title} ", "dim" if action.name not in refused else "bad")]
        used += length
    return tuple(pieces)


def spread(left: Sequence[Piece], right: Sequence[Piece], width: int) -> Cell:
    """Both ends of a line; when they collide the left end gives way."""
    room = width - sum(cell_len(words) for words, _ in right)
    kept: list[Piece] = []
    for words, tone in left:
        if cell_len(words) > room:
            kept.append((words[: max(0, room)], tone))
            room = 0
            break
        kept.append((words, tone))
        room -= cell_len(words)
    return (*kept, (" " * max(0, room), ""), *right)
