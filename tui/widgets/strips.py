"""Textual's lines of a screen without references to themselves.

A ``Strip`` remembers what was made of it. Where that is the strip itself (cut at its own two ends) it becomes a
reference cycle, which only the cyclic collector frees: hundreds of objects a frame on a busy screen, and a pause
whenever it runs. These methods answer such questions without remembering the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.style import Style
from textual.strip import Strip

_divide, _crop_extend = Strip.divide, Strip.crop_extend


def _divided(strip: Strip, cuts: Iterable[int]) -> Sequence[Strip]:
    wanted = [cut for cut in cuts if cut <= strip.cell_length]
    return [strip] if wanted == [strip.cell_length] else _divide(strip, wanted)


def _cropped(strip: Strip, start: int, end: int, style: Style | None) -> Strip:
    return strip if start == 0 and end == strip.cell_length else _crop_extend(strip, start, end, style)


def free_of_cycles() -> None:
    """Make every strip of this process so; once is enough, twice is the same."""
    Strip.divide = _divided  # type: ignore[method-assign, assignment]
    Strip.crop_extend = _cropped  # type: ignore[method-assign, assignment]
