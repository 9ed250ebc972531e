"""The library's own widgets without a character beyond ASCII: frames, scroll bars and the palette.

What we paint ourselves takes its characters from ``Glyphs``; this is for what Textual paints.
"""

from __future__ import annotations

from typing import ClassVar

from textual.scrollbar import ScrollBar, ScrollBarRender

CSS = """
Deck.-ascii Confirm > Vertical { border: ascii $error; }
Deck.-ascii Ask > Vertical { border: ascii $primary; }
Deck.-ascii SearchIcon { display: none; }
Deck.-ascii CommandPalette #--input, Deck.-ascii CommandPalette CommandList { border: none; }
Deck.-ascii CommandPalette LoadingIndicator { display: none; }
"""
"""In force while the application has the class ``-ascii``."""


class PlainBar(ScrollBarRender):
    """A thumb of whole characters: its ends are drawn with nothing finer."""

    VERTICAL_BARS: ClassVar[list[str]] = [" "] * 8
    HORIZONTAL_BARS: ClassVar[list[str]] = [" "] * 8


def draw_plain_bars() -> None:
    """Draw every scroll bar of this process so."""
    ScrollBar.renderer = PlainBar
