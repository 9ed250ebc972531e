"""What every screen of the flight deck shares: title, tabs, prompt, flash line, key bar, and how actions are run.

``paint`` is called by the application's timer when something changed; it is the only way a screen follows the world.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.screen import Screen
from textual.widget import Widget

from tui.act import table
from tui.act.table import ACTIONS, BY_NAME, Action
from tui.feed.replay import Player
from tui.screens import bars
from tui.screens.prompt import Prompt
from tui.view.cells import Cell, text
from tui.widgets.lines import Lines

if TYPE_CHECKING:
    from tui.app import Deck


class DeckScreen(Screen[None]):
    """Base of the screens; subclasses give ``body`` and ``paint_body``."""

    name_of: ClassVar[str] = ""
    takes_every_key: ClassVar[bool] = False
    """Whether keys are for a program inside, not for the deck."""
    DEFAULT_CSS = """
    DeckScreen { layout: vertical; }
    DeckScreen .bar { height: 1; background: $surface; }
    DeckScreen #keys { dock: bottom; }
    DeckScreen #flash { height: 1; display: none; }
    DeckScreen #flash.-open { display: block; }
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Each screen's bindings come from the table of actions."""
        bound: list[BindingType] = list(table.bindings(cls.name_of))
        cls.BINDINGS = bound
        super().__init_subclass__(**kwargs)

    @property
    def deck(self) -> Deck:
        """The application."""
        return cast("Deck", self.app)

    def compose(self) -> ComposeResult:
        """Bars around the body."""
        yield Lines([()], id="title", classes="bar")
        yield Lines([()], id="tabs", classes="bar")
        yield from self.body()
        yield Lines([()], id="flash")
        yield Prompt()
        yield Lines([()], id="keys", classes="bar")

    def body(self) -> Iterable[Widget]:
        """The widgets between the bars."""
        raise NotImplementedError

    def on_mount(self) -> None:
        """Show something at once."""
        self.paint()

    def on_screen_resume(self) -> None:
        """Coming back: what is shown may be old."""
        self.paint()

    def on_screen_suspend(self) -> None:
        """Leaving: what was said has been read."""
        self.unflash()

    # Painting -----------------------------------------------------------------------------------------------------
    def paint(self) -> None:
        """Show the present state of the world."""
        if not self.is_mounted:
            return
        self.paint_body(self.deck.source.now())
        self.paint_bars()

    def paint_body(self, now: float) -> None:
        """Bring the body up to date."""
        raise NotImplementedError

    def paint_bars(self) -> None:
        """Bring title, tabs and key bar up to date."""
        deck, width = self.deck, self.size.width
        situation = bars.Situation(
            namespace=deck.namespace,
            readonly=deck.readonly,
            recording=deck.recording,
            crumbs=self.crumbs,
            filter=self.filter_text,
            count=self.count_text,
        )
        self.query_one("#title", Lines).show([bars.title_line(deck.source, situation, deck.glyphs, width)])
        self.query_one("#tabs", Lines).show([bars.tab_line(self.name_of, situation, width)])
        shown = [action for action in ACTIONS if action.bar and self.offers(action)]
        self.query_one("#keys", Lines).show([bars.key_bar(shown, deck.refused, width)])

    @property
    def crumbs(self) -> str:
        """Where we are, below a tab."""
        return ""

    @property
    def filter_text(self) -> str:
        """The filter in force."""
        return ""

    @property
    def count_text(self) -> str:
        """How many rows are shown, of how many."""
        return ""

    def flash(self, words: str, tone: str = "") -> None:
        """Say something in the line above the keys for a while."""
        line = self.query_one("#flash", Lines)
        line.show([text(f" {words}", tone)])
        line.add_class("-open")
        self.deck.after_flash(self)

    def unflash(self) -> None:
        """Take the line away."""
        if self.is_mounted:
            self.query_one("#flash", Lines).remove_class("-open")

    @property
    def flashed(self) -> str:
        """What is being said."""
        line = self.query_one("#flash", Lines)
        return line.plain.strip() if line.has_class("-open") else ""

    # Actions ------------------------------------------------------------------------------------------------------
    def offers(self, action: Action) -> bool:
        """Whether the action exists here and now."""
        if not action.belongs(self.name_of) or (action.replay and not isinstance(self.deck.source, Player)):
            return False
        changes = action.danger or action.needs is not None
        if changes and isinstance(self.deck.source, Player):
            return False
        return not (action.danger and self.deck.readonly)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Bindings of what is not offered do not exist; while something is typed, keys are text."""
        if action != "act" or not self.is_mounted:
            return True
        known = BY_NAME.get(str(parameters[0]))
        if self.query_one(Prompt).is_open and parameters[0] not in ("quit", "palette"):
            return False
        return known is not None and self.offers(known)

    def action_act(self, name: str, argument: str = "") -> None:
        """Run an action of the table, from whatever front end."""
        action = BY_NAME[name]
        if not self.offers(action):
            self.flash(f"{action.title}: not here", "warn")
            return
        if name in self.deck.refused:
            self.flash(f"{action.title}: not allowed ({self.deck.refused[name]})", "bad")
            return
        handler = getattr(self, f"do_{name}", None)
        if handler is None:
            self.run_worker(self.deck.doer.run(self, action, argument), group="deeds")
            return
        answer = handler(argument)
        if isawaitable(answer):
            self.run_worker(cast(Any, answer), group="reads")

    def after_upgrade(self) -> None:
        """An image is being changed: screens that can show how it goes do."""

    def targets(self, action: Action) -> Sequence[Any]:
        """The rows an action is about."""
        return ()

    def do_overview(self, argument: str) -> None:
        """Go to the overview."""
        self.deck.go("overview")

    def do_pools(self, argument: str) -> None:
        """Go to the pools."""
        self.deck.go("pools")

    def do_sandboxes(self, argument: str) -> None:
        """Go to the sandboxes, filtered if words follow."""
        self.deck.go("sandboxes", filter=argument)

    def do_claims(self, argument: str) -> None:
        """Go to the claims."""
        self.deck.go("claims")

    def do_back(self, argument: str) -> None:
        """One screen back; at the bottom of the stack there is nowhere to go."""
        if len(self.deck.screen_stack) > 1:
            self.deck.pop_screen()

    def do_namespace(self, argument: str) -> None:
        """Choose a namespace; without a name, ask."""
        if argument:
            self.deck.choose_namespace(None if argument == "all" else argument)
            self.paint()
            return
        known = ", ".join(self.deck.source.world.namespaces()) or "none seen yet"
        self.query_one(Prompt).open("namespace", f"namespace (all, {known}):", self.deck.namespace or "")

    def do_command(self, argument: str) -> None:
        """The command line."""
        self.query_one(Prompt).open("command", ":")

    def do_palette(self, argument: str) -> None:
        """The palette."""
        self.app.action_command_palette()

    def do_help(self, argument: str) -> None:
        """The help, made from the table."""
        self.deck.show_help(self)

    def do_quit(self, argument: str) -> None:
        """Leave."""
        self.app.exit()

    def do_theme(self, argument: str) -> None:
        """Choose a theme by name, or the next one."""
        self.flash(self.deck.choose_theme(argument))

    def do_screenshot(self, argument: str) -> None:
        """Save the screen as SVG."""
        self.flash(f"saved {self.app.save_screenshot(argument or None)}")

    # Recordings ---------------------------------------------------------------------------------------------------
    def _player(self) -> Player:
        return cast(Player, self.deck.source)

    def do_play(self, argument: str) -> None:
        """Hold or go on."""
        self._player().paused = not self._player().paused
        self.paint()

    def do_seek(self, argument: str) -> None:
        """To a share, an offset or a time of day of the recording."""
        try:
            self.deck.seek(argument)
        except ValueError as error:
            self.flash(str(error), "bad")
        self.paint()

    def do_forward(self, argument: str) -> None:
        """Ten seconds on."""
        self.do_seek("+10")

    def do_rewind(self, argument: str) -> None:
        """Ten seconds back."""
        self.do_seek("-10")

    def do_faster(self, argument: str) -> None:
        """Next speed."""
        self._player().faster(1)
        self.paint()

    def do_slower(self, argument: str) -> None:
        """Previous speed."""
        self._player().faster(-1)
        self.paint()

    # The prompt ---------------------------------------------------------------------------------------------------
    def on_prompt_entered(self, event: Prompt.Entered) -> None:
        """What was typed, by purpose."""
        self.close_prompt()
        if event.purpose == "command":
            self.command(event.text)
        elif event.purpose == "namespace":
            self.do_namespace(event.text.strip() or "all")

    def on_prompt_cancelled(self, event: Prompt.Cancelled) -> None:
        """Nothing."""
        self.close_prompt()

    def close_prompt(self) -> None:
        """Give the keys back to the body."""
        self.query_one(Prompt).close()
        self.focus_body()

    def focus_body(self) -> None:
        """Where keys go when nothing is typed."""

    def command(self, line: str) -> None:
        """``NAME [ARGUMENT]``: any action by name, alias or unambiguous beginning."""
        word, _, argument = line.strip().lstrip(":").partition(" ")
        if not word:
            return
        action = table.named(word)
        if action is None:
            self.flash(f"no command {word!r}; ? lists them", "bad")
            return
        self.action_act(action.name, argument.strip())


def shown_lines(lines: Sequence[Cell]) -> str:
    """Cells as plain text."""
    return "\n".join("".join(words for words, _ in line) for line in lines)
