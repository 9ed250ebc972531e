"""Cells: short pieces of text with a tone, and the formats of numbers, ages and graphs.

A tone is a word for what the text means (``good``, ``warn``, ``bad``, ``busy``, ``idle``, ``accent``, ``dim`` or
empty); themes decide its colour. No meaning is carried by colour alone: each state has a glyph and a word too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

Piece = tuple[str, str]
"""Text and tone."""
Cell = tuple[Piece, ...]


@dataclass(frozen=True)
class Glyphs:
    """What can be drawn."""

    bars: str = " ▁▂▃▄▅▆▇█"
    full: str = "█"
    states: str = "◌●▶‖✕"
    """creating, available, running, paused, dead."""
    fleet: str = "█████"
    """The states in a bar."""
    stages: str = "█████"
    """The stages of a claim in a bar: queue, pick, write, ready, init."""
    up: str = "▲"
    down: str = "▼"
    mark: str = "●"
    dot: str = "·"
    ellipsis: str = "…"
    live: str = "●"
    never: str = "∞"
    warning: str = "▲"
    line: str = "─"


ASCII = Glyphs(
    bars=" .:-=+*#@",
    full="#",
    states="+o>=x",
    fleet="+o>=x",
    stages="qpwri",
    up="^",
    down="v",
    mark="*",
    dot="-",
    ellipsis="~",
    live="*",
    never="-",
    warning="!",
    line="-",
)
"""For terminals without Unicode."""
UNICODE = Glyphs()
PLAIN = Glyphs(fleet=UNICODE.states, stages=ASCII.stages)
"""Without colours: what a bar says is said by its characters."""


def text(value: object, tone: str = "") -> Cell:
    """A cell of one piece."""
    return ((str(value), tone),)


def clean(words: str) -> str:
    """Words in one line whatever they hold: nothing that a cluster says may move the cursor of a terminal."""
    return words if words.isprintable() else _COLOURS.sub("", words).expandtabs(4).translate(_CONTROLS)


_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "?")


def number(value: int, tone: str = "") -> Cell:
    """A count; zero is dim, so that what is there stands out."""
    return text(value, tone if value else "dim")


def span(seconds: float) -> str:
    """A length of time in at most five characters: ``4s``, ``59m``, ``3h12m``, ``12d``."""
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{int(seconds)}s"
    if seconds < 3600:
        return f"{int(seconds // 60)}m"
    if seconds < 86400:
        hours, minutes = divmod(int(seconds // 60), 60)
        return f"{hours}h{minutes:02d}m" if hours < 10 else f"{hours}h"
    return f"{int(seconds // 86400)}d"


def countdown(until: float | None, now: float) -> str:
    """What is left of a timer: ``4:59``, ``2h05m``, ``due``; empty without one."""
    if until is None:
        return ""
    left = until - now
    if left <= 0:
        return "due"
    if left < 600:
        minutes, seconds = divmod(math.ceil(left), 60)
        return f"{minutes}:{seconds:02d}"
    return span(left)


def brief(seconds: float | None) -> str:
    """A latency: ``840µs`` is told as ``0.8ms``, then ``12ms``, ``1.25s``, ``90s``; a dash for none."""
    if seconds is None:
        return "-"
    if seconds < 0.010:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    return f"{seconds:.2f}s" if seconds < 10 else f"{seconds:.0f}s"


def per_second(rate: float) -> str:
    """A rate: ``0``, ``0.3/s``, ``12/s``."""
    if rate == 0:
        return "0"
    return f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s" if rate >= 0.1 else f"{rate * 60:.1f}/m"


def clock(at: float) -> str:
    """Time of day, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S")


def spark(values: Sequence[float], width: int, glyphs: Glyphs, top: float = 0.0) -> str:
    """The last ``width`` values as a row of bars; ``top`` is the least value of a full bar."""
    shown = values[-width:]
    highest = max([top, *shown]) if shown else 0.0
    steps = len(glyphs.bars) - 1
    if highest <= 0:
        return (glyphs.bars[1] * len(shown)).rjust(width)
    levels = (glyphs.bars[max(1 if value > 0 else 0, round(value / highest * steps))] for value in shown)
    return "".join(levels).rjust(width)


def stacked(shares: Sequence[tuple[float, str]], width: int, glyphs: str, *, least: float = 0.0) -> Cell:
    """A bar of ``width`` characters cut in proportion, the n-th share drawn with the n-th glyph.

    A share below ``least`` characters is not drawn; every other one above zero gets at least one.
    """
    whole = sum(value for value, _ in shares)
    drawn = [
        (value, tone, glyph)
        for (value, tone), glyph in zip(shares, glyphs, strict=True)
        if value > 0 and value * width >= least * whole
    ]
    total = sum(value for value, _, _ in drawn)
    if not drawn or width < len(drawn):
        return text(" " * width)
    cells, used, so_far = [], 0, 0.0
    for left, (value, tone, glyph) in zip(reversed(range(len(drawn))), drawn, strict=True):
        so_far += value
        end = min(width - left, max(used + 1, round(width * so_far / total)))
        cells.append((glyph * (end - used), tone))
        used = end
    return tuple(cells)
