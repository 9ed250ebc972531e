"""A terminal in the deck: shows the emulator's screen, gives it every key, and paints as often as an eye can see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.geometry import Region
from textual.strip import Strip
from textual.timer import Timer
from textual.widget import Widget

from tui.terminal.emulator import Emulator
from tui.terminal.keys import key_event
from tui.terminal.paint import line
from tui.view.cells import ASCII, Glyphs
from tui.widgets.tones import COMPONENTS, Palette, scoped

PAINT = 0.03
"""Seconds from the first byte that is not shown yet to the next painting."""
WHEEL = 3
"""Lines of one turn of the wheel."""
BUTTONS = {1: 0, 2: 1, 3: 2}
"""Textual's mouse buttons as those of the mouse protocol: left, middle, right."""
WHEEL_UP, WHEEL_DOWN = 64, 65
NO_BUTTON = 3


class TerminalView(Widget, can_focus=True):
    """``send`` gets what is typed and answered; ``resized`` the new size, columns and lines."""

    COMPONENT_CLASSES: ClassVar[set[str]] = set(COMPONENTS)
    DEFAULT_CSS = """
    TerminalView { height: 1fr; width: 1fr; }
    """ + scoped("TerminalView")

    def __init__(self, send: Callable[[bytes], object], resized: Callable[[int, int], object], glyphs: Glyphs) -> None:
        super().__init__()
        self.emulator = Emulator(80, 24, send)
        self._resized = resized
        self._plain = glyphs is ASCII
        self._palette: Palette | None = None
        self._due: Timer | None = None
        self._rows: list[Any] = []

    def feed(self, data: bytes) -> None:
        """What the program printed; shown with the next painting."""
        self.emulator.feed(data)
        self._soon()

    def _soon(self) -> None:
        if self._due is None:
            self._due = self.set_timer(PAINT, self.paint)

    def paint(self) -> None:
        """Show the lines that changed; all of them while the view moves."""
        self._due = None
        self.refresh()

    @property
    def plain(self) -> str:
        """The words on the screen."""
        return "\n".join("".join(text for _, text in row).rstrip() for row in self.emulator.rows())

    # Input --------------------------------------------------------------------------------------------------------
    def on_key(self, event: events.Key) -> None:
        """Every key is the program's."""
        event.stop()
        event.prevent_default()
        if event.key in ("shift+pageup", "shift+pagedown"):
            half = self.size.height // 2
            self.scroll_back(-half if event.key == "shift+pageup" else half)
            return
        pressed = key_event(event.key, event.character)
        if pressed is not None:
            self.emulator.scroll_to_bottom()
            self.emulator.board.input_key_event(pressed)

    def on_paste(self, event: events.Paste) -> None:
        """Text, in brackets where the program asked for them; controls in it are taken out."""
        event.stop()
        self.emulator.scroll_to_bottom()
        self.emulator.board.input_paste(event.text)

    def on_resize(self, event: events.Resize) -> None:
        """The program's terminal is as large as the widget."""
        columns, lines = max(2, event.size.width), max(2, event.size.height)
        self.emulator.resize(columns, lines)
        self._resized(columns, lines)

    def scroll_back(self, lines: int) -> None:
        """Look at what scrolled off (negative), or back down."""
        self.emulator.scroll_view(lines)
        self.refresh()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """To the program that asked for the mouse, else what scrolled off."""
        self._wheel(event, WHEEL_UP, -WHEEL)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """To the program that asked for the mouse, else back down."""
        self._wheel(event, WHEEL_DOWN, WHEEL)

    def _wheel(self, event: events.MouseEvent, button: int, lines: int) -> None:
        event.stop()
        if self._captures:
            self._mouse(event, button, "press")
        else:
            self.scroll_back(lines)

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """To the program that asked for it."""
        self._mouse(event, BUTTONS.get(event.button, 0), "press")

    def on_mouse_up(self, event: events.MouseUp) -> None:
        """To the program that asked for it."""
        self._mouse(event, BUTTONS.get(event.button, 0), "release")

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """To the program that asked for it."""
        self._mouse(event, BUTTONS.get(event.button, NO_BUTTON), "move")

    @property
    def _captures(self) -> bool:
        return bool(self.emulator.board.mouse.capture() != "off")

    def _mouse(self, event: events.MouseEvent, button: int, kind: str) -> None:
        if self._captures:
            held = {name for name in ("shift", "meta", "ctrl") if getattr(event, name)}
            self.emulator.board.input_mouse(int(event.x) + 1, int(event.y) + 1, button, kind, held)

    # Painting -----------------------------------------------------------------------------------------------------
    def notify_style_update(self) -> None:
        """The theme changed."""
        self._palette = None
        super().notify_style_update()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Some lines of the emulated screen, all of one moment."""
        self._rows = self.emulator.rows()
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One line of the emulated screen."""
        if self._palette is None:
            self._palette = Palette(self)
        rows, cursor = self._rows, self.emulator.cursor
        if y >= len(rows):
            return Strip.blank(self.size.width, self._palette.base)
        column = cursor[0] if cursor is not None and cursor[1] == y and self.has_focus else -1
        return line(rows[y], self.size.width, self._palette.base, cursor=column, plain=self._plain)
