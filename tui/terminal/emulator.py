"""The screen of a terminal, fed by a sandbox: what it may do to us is paint cells and ask plain questions.

The sandbox's bytes end here. They become cells, which the deck paints like any other text, so none of its escape
sequences reaches the operator's own terminal. What would reach past the screen (title, clipboard, links, notifications,
colours of the palette, size of the window, printer, keys that type something else) is unknown to this terminal. What it
keeps is bounded: an unfinished sequence, and the lines that scrolled off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

from bittty import XTERM, Board, TerminalCaps
from bittty.mode_profiles import UNICODE_GRAPHEME_CLUSTERING
from bittty.terminals.base import Terminal
from bittty.terminals.scrollback import MemoryScrollback
from bittty.video import Cell

ALT_SENDS_ESCAPE: Final = frozenset({1036, 1039})
"""DEC private modes of the keyboard; without them alt and a letter is a letter of Latin-1."""
MODEL: Final = dataclasses.replace(
    XTERM,
    power_on_modes=ALT_SENDS_ESCAPE,
    mode_capabilities=XTERM.mode_capabilities | {UNICODE_GRAPHEME_CLUSTERING},
)
CAPABLE: Final = TerminalCaps(grapheme_mode="permanently-set")
"""An accent belongs to the cell of its letter."""
UNKNOWN: Final = ("OSC_", "LINUX_", "SET_", "XTWINOPS", "XTSMTITLE", "XTRMTITLE", "DECUDK", "DECDMAC", "DECINVM", "MC",
                  "DECMC", "DECSPRTT", "DECSCPP", "DECELR", "DECLL", "C0_ENQ")  # fmt: skip
"""Operations, by the beginnings of their names, that this terminal does not know."""
UNFINISHED: Final = 16 * 1024
"""Characters of an unfinished control sequence; a longer one is dropped."""
KEPT: Final = 400_000
"""Cells of scrolled-off lines that are kept: 2,000 full lines of 200 columns, about 5 MB."""


class Emulator(Terminal):  # type: ignore[misc]  # the library has no types
    """An xterm of so many columns and lines; ``send`` gets what it types and answers."""

    def __init__(self, columns: int, lines: int, send: Callable[[bytes], object]) -> None:
        self._size = (columns, lines)
        super().__init__(Board(width=columns, height=lines, model=MODEL), MemoryScrollback(KEPT))
        for name in [name for name in self.board.registry if name.startswith(UNKNOWN)]:
            del self.board.registry[name]
        self.set_caps(CAPABLE)
        self.board.pty = Line(send)
        self.attach()

    def feed(self, data: bytes) -> None:
        """What the program printed."""
        self.board.feed_host_data(data)
        parser = self.board.parser
        if len(parser.buffer) > UNFINISHED:
            parser.reset()
        if (self.board.width, self.board.height) != self._size:
            self.board.resize(*self._size)  # it chose another size, as by DECCOLM: ours is that of the window

    def resize(self, columns: int, lines: int) -> None:
        """The window has another size; telling the sandbox is up to the caller."""
        self._size = (columns, lines)
        self.board.resize(columns, lines)

    def rows(self) -> list[Sequence[Cell]]:
        """The lines to show: cells of (style, character), a wide character followed by an empty one."""
        rows: list[Sequence[Cell]] = self.view_rows()
        return rows

    @property
    def cursor(self) -> tuple[int, int] | None:
        """Column and line of the cursor; None when it is hidden or scrolled away from."""
        place: tuple[int, int] | None = self.port.cursor
        return None if place is None or self.view_offset() else place


class Line:
    """The line to the program, as the library wants it: bytes out; in goes through ``Emulator.feed``."""

    closed = False

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self._send = send

    def write(self, data: str) -> int:
        """Keys and answers."""
        self._send(data.encode("utf-8", "surrogatepass"))
        return len(data)

    def write_bytes(self, data: bytes) -> int:
        """Keys and answers that are no text."""
        self._send(data)
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def resize(self, rows: int, cols: int) -> None:
        """The program does not choose its size."""

    def configure_line(self, line: object) -> None:
        """There is no modem."""

    def close(self) -> None:
        """Ends with the session."""
