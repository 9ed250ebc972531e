"""Dialogs before something is done: a question whose default is Cancel, and a question for a value with a preview."""

from __future__ import annotations

from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Label, Static

from tui.act.refused import Refused

CSS = """
{name} {{ align: center middle; background: $background 60%; }}
{name} > Vertical {{ width: 64; max-width: 96%; height: auto; max-height: 96%; border: round {border}; padding: 1 2;
    background: $surface; }}
{name} .title {{ text-style: bold; width: 100%; }}
{name} .detail {{ color: $text-muted; width: 100%; margin: 1 0; }}
{name} Horizontal {{ height: auto; align-horizontal: right; }}
{name} Button {{ margin-left: 2; }}
{name} Button:focus {{ text-style: bold reverse; }}
{name} Input {{ background: $panel; padding: 0 1; }}
"""


BUTTON = 10
"""Least width of a label: two buttons fit on 40 columns."""


def _filling(label: str) -> str:
    """A label as wide as its button, so that the mark of the focus fills it."""
    return f"{label:^{BUTTON}}"


class Confirm(ModalScreen[bool]):
    """Yes or no; Cancel has the focus. With ``typed`` the word must be typed before the deed can be chosen."""

    DEFAULT_CSS = CSS.format(name="Confirm", border="$error")
    BINDINGS = [  # noqa: RUF012 - textual's own form
        Binding("escape,n,q", "no", "Cancel", show=False),
        Binding("left,h", "app.focus_previous", "", show=False),
        Binding("right,l", "app.focus_next", "", show=False),
    ]

    def __init__(self, question: str, detail: str, verb: str, typed: str = "") -> None:
        super().__init__()
        self.question, self.detail, self.verb, self.typed = question, detail, verb, typed

    def compose(self) -> ComposeResult:
        """Question, consequence, two buttons."""
        with Vertical():
            yield Label(self.question, classes="title", markup=False)
            yield Static(self.detail, classes="detail", markup=False)
            if self.typed:
                box = Input(placeholder=f"type {self.typed} to go on", compact=True)
                box.cursor_blink = False
                yield box
            with Horizontal():
                yield Button(_filling("Cancel"), id="cancel", compact=True)
                yield Button(_filling(self.verb), id="yes", variant="error", disabled=bool(self.typed), compact=True)

    def on_mount(self) -> None:
        """The default is to do nothing."""
        self.query_one("#cancel" if not self.typed else Input).focus()

    @on(Input.Changed)
    def _check(self, event: Input.Changed) -> None:
        self.query_one("#yes", Button).disabled = event.value != self.typed

    @on(Input.Submitted)
    def _leave_input(self) -> None:
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """The answer."""
        self.dismiss(event.button.id == "yes")

    def action_no(self) -> None:
        """Escape."""
        self.dismiss(False)


class Ask(ModalScreen["str | None"]):
    """Asks for a value and says below what it will do; Enter takes it, unless it will not do."""

    DEFAULT_CSS = CSS.format(name="Ask", border="$primary")
    BINDINGS = [Binding("escape", "no", "Cancel", show=False)]  # noqa: RUF012 - textual's own form

    def __init__(self, question: str, value: str, preview: Callable[[str], str]) -> None:
        super().__init__()
        self.question, self.value, self.preview = question, value, preview

    def compose(self) -> ComposeResult:
        """Question, value, preview."""
        with Vertical():
            yield Label(self.question, classes="title", markup=False)
            box = Input(self.value, compact=True, select_on_focus=True)
            box.cursor_blink = False
            yield box
            yield Static(self._told(self.value), classes="detail", markup=False)

    def _told(self, value: str) -> str:
        if not value.strip():
            return "Enter a value; Esc cancels."
        try:
            return self.preview(value)
        except Refused as error:
            return str(error)

    @on(Input.Changed)
    def _show(self, event: Input.Changed) -> None:
        self.query_one(".detail", Static).update(self._told(event.value))

    @on(Input.Submitted)
    def _take(self, event: Input.Submitted) -> None:
        try:
            self.preview(event.value)
        except Refused:
            return
        if event.value.strip():
            self.dismiss(event.value.strip())

    def action_no(self) -> None:
        """Escape."""
        self.dismiss(None)
