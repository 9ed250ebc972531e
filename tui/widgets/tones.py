"""Tones as styles: one set of component classes whose colours follow the theme, for widgets that paint lines."""

from __future__ import annotations

from rich.style import Style
from textual.color import Color
from textual.widget import Widget

TONES = ("good", "warn", "bad", "busy", "idle", "accent", "dim")
COMPONENTS = frozenset({*(f"tone--{tone}" for tone in TONES), "tone--header", "tone--cursor", "tone--mark"})
CSS = """
.tone--good { color: $text-success; }
.tone--warn { color: $text-warning; }
.tone--bad { color: $text-error; text-style: bold; }
.tone--busy { color: darkcyan; }
.tone--idle { color: mediumpurple; }
.tone--accent { color: $text-primary; }
.tone--dim { color: $foreground 60%; }
.tone--header { color: $foreground 60%; text-style: bold; background: $surface; }
.tone--cursor { background: $primary 35%; text-style: bold; }
.tone--mark { background: $warning 25%; }
"""
"""Scoped by each widget that uses it with ``scoped``."""


def scoped(widget: str) -> str:
    """The tone rules for one widget class."""
    return "\n".join(f"{widget} > {line}" if line else "" for line in CSS.splitlines())


class Palette:
    """Resolved styles of one widget, worked out once per theme.

    A ``rich`` style cannot be translucent, so alpha is blended here with the background that is really behind.
    """

    def __init__(self, widget: Widget) -> None:
        _, _, ground, ink = widget.colors
        self.base = Style(color=_over(ground, ink).rich_color, bgcolor=ground.rich_color)
        self._styles = {"": Style()}
        for name in (*TONES, "header", "cursor", "mark"):
            self._styles[name] = _style(widget, name, ground)
        self._mixed: dict[tuple[str, str], Style] = {}

    def style(self, tone: str, over: str = "") -> Style:
        """The style of a tone, laid over ``over`` (``cursor``, ``mark`` or nothing)."""
        key = (tone, over)
        found = self._mixed.get(key)
        if found is None:
            found = self._mixed[key] = self.base + self._styles[tone] + self._styles[over]
        return found


def _style(widget: Widget, name: str, ground: Color) -> Style:
    """One tone; what its rule does not set is left to what lies under it."""
    styles = widget.get_component_styles(f"tone--{name}")
    color = _over(ground, styles.color).rich_color if name != "cursor" and name != "mark" else None
    background = _over(ground, styles.background).rich_color if styles.background.a else None
    flags = styles.text_style
    return Style(color=color, bgcolor=background) + flags


def _over(ground: Color, color: Color) -> Color:
    return ground.blend(color, color.a, 1.0) if color.a < 1 else color
