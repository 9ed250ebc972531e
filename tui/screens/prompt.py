"""The line at the bottom in which filters, commands and answers are typed."""

from __future__ import annotations

from collections.abc import Callable

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label


class Prompt(Horizontal):
    """Hidden until asked; reports every keystroke and the end. ``purpose`` says whose answer it is."""

    DEFAULT_CSS = """
    Prompt { height: 1; display: none; background: $surface; }
    Prompt.-open { display: block; }
    Prompt Label { width: auto; color: $text-warning; text-style: bold; }
    Prompt Input { padding: 0; width: 1fr; background: $surface; }
    """
    BINDINGS = [Binding("escape", "cancel", "Cancel", show=False)]  # noqa: RUF012 - textual's own form

    class Typed(Message):
        """The text changed."""

        def __init__(self, purpose: str, text: str) -> None:
            super().__init__()
            self.purpose, self.text = purpose, text

    class Entered(Typed):
        """Enter."""

    class Cancelled(Message):
        """Escape."""

        def __init__(self, purpose: str) -> None:
            super().__init__()
            self.purpose = purpose

    def __init__(self) -> None:
        super().__init__()
        self.purpose = ""
        self._complete: Callable[[str], str] = lambda text: text

    def compose(self) -> ComposeResult:
        """A label and an input."""
        yield Label("")
        box = Input(select_on_focus=False, compact=True)
        box.cursor_blink = False
        yield box

    def open(self, purpose: str, label: str, text: str = "") -> None:
        """Show the prompt and take the keys."""
        self.purpose = purpose
        self.query_one(Label).update(f" {label} ")
        box = self.query_one(Input)
        with box.prevent(Input.Changed):
            box.value = text
        box.cursor_position = len(text)
        self.add_class("-open")
        self.screen.set_focus(box)  # at once: what is typed next must not become keys of the table

    def close(self) -> None:
        """Hide the prompt."""
        self.remove_class("-open")
        self.purpose = ""

    @property
    def is_open(self) -> bool:
        """Whether it takes the keys."""
        return self.has_class("-open")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Tell the screen what is typed."""
        event.stop()
        if self.is_open:
            self.post_message(self.Typed(self.purpose, event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Tell the screen what was entered."""
        event.stop()
        self.post_message(self.Entered(self.purpose, event.value))

    def action_cancel(self) -> None:
        """Escape."""
        self.post_message(self.Cancelled(self.purpose))
