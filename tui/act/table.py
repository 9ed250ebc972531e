"""Every action of the flight deck, as data. Bindings, ``:`` command line, palette, key bar and help are made of it.

``where`` names the screens an action belongs to (empty: everywhere); the screen's method ``do_NAME`` performs it, or,
for one that changes the cluster, the deed of that name in ``deeds``. Dangerous ones do not exist under --readonly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from textual.binding import Binding

LISTS: Final = ("pools", "sandboxes", "claims")
ONE: Final = ("sandbox",)
BOXES: Final = ("sandboxes", "sandbox")


@dataclass(frozen=True)
class Action:
    """One thing an operator can do."""

    name: str
    keys: str
    title: str
    group: str
    where: tuple[str, ...] = ()
    danger: bool = False
    needs: tuple[str, str] | None = None
    """Verb and resource that the cluster must allow."""
    aliases: tuple[str, ...] = ()
    argument: str = ""
    """What may follow its name on the command line."""
    bar: bool = False
    """Worth a place in the key bar."""
    replay: bool = False
    """Only while playing a recording."""

    def belongs(self, screen: str) -> bool:
        """Whether it can be done on that screen."""
        return not self.where or screen in self.where

    @property
    def shown_keys(self) -> str:
        """The keys as a person reads them."""
        return " ".join(SHOWN.get(key, key) for key in self.keys.split(",") if key)


SHOWN: Final = {
    "question_mark": "?",
    "slash": "/",
    "colon": ":",
    "escape": "esc",
    "space": "space",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "full_stop": ".",
    "ctrl+backslash": "ctrl+\\",
    "ctrl+right_square_bracket": "ctrl+]",
    "ctrl+@": "ctrl+space",
    "G": "G",
    "minus": "-",
}

ACTIONS: Final[tuple[Action, ...]] = (
    Action("overview", "1", "Overview", "go", aliases=("ov", "pulses")),
    Action("pools", "2", "Pools", "go", aliases=("po", "pool", "sbs", "sandboxsets")),
    Action("sandboxes", "3", "Sandboxes", "go", aliases=("sbx", "sb", "sandbox"), argument="[FILTER]"),
    Action("claims", "4", "Claims", "go", aliases=("cl", "claim-list")),
    Action("open", "enter", "Open", "go", ("overview", *LISTS), bar=True),
    Action("back", "escape,minus", "Back, or clear the filter", "go"),
    Action("leave", "ctrl+right_square_bracket", "End the shell", "go", ("shell",), bar=True),
    Action("filter", "slash", "Filter: words, !words, -l label=value", "see", (*LISTS, "overview"), bar=True,
           argument="WORDS"),
    Action("namespace", "n", "One namespace, or all", "see", aliases=("ns",), argument="[NAME|all]"),
    Action("wide", "ctrl+w", "All columns", "see", LISTS),
    Action("faults", "ctrl+z", "Only what has trouble", "see", LISTS),
    Action("mark", "space", "Mark", "mark", LISTS, bar=True),
    Action("mark_range", "ctrl+@", "Mark from the last mark to here", "mark", LISTS),
    Action("unmark", "ctrl+backslash", "Clear all marks", "mark", LISTS),
    Action("down", "j,down", "Down", "move", ()),
    Action("up", "k,up", "Up", "move", ()),
    Action("top", "g,home", "First", "move", ()),
    Action("bottom", "G,end", "Last", "move", ()),
    Action("page_down", "pagedown,ctrl+f", "Page down", "move", ()),
    Action("page_up", "pageup,ctrl+b", "Page up", "move", ()),
    Action("next_tab", "tab,right_square_bracket", "Next part", "go", ONE),
    Action("previous_tab", "shift+tab,left_square_bracket", "Previous part", "go", ONE),
    Action("describe", "d", "Describe", "one", (*LISTS, "sandbox"), bar=True),
    Action("yaml", "y", "YAML", "one", (*LISTS, "sandbox"), bar=True),
    Action("logs", "l", "Logs", "one", BOXES, needs=("get", "pods/log"), bar=True),
    Action("shell", "s", "Shell inside", "one", BOXES, danger=True, needs=("create", "pods/exec"), bar=True),
    Action("processes", "o", "Processes", "one", BOXES, needs=("create", "pods/exec"), aliases=("ps",), bar=True),
    Action("files", "f", "Files", "one", BOXES, needs=("create", "pods/exec"), argument="[PATH]", bar=True),
    Action("usage", "m", "Usage", "one", BOXES, needs=("create", "pods/exec"), aliases=("metrics",), bar=True),
    Action("copy", "c", "Copy, to the clipboard", "one", ("page", "sandbox", "logs"), bar=True),
    Action("claim", "c", "Claim a sandbox", "do", ("pools",), True, ("create", "sandboxclaims"), bar=True),
    Action("scale", "s", "Scale", "do", ("pools",), True, ("patch", "sandboxsets"), argument="N", bar=True),
    Action("image", "i", "Change image", "do", ("pools",), True, ("patch", "sandboxsets"), argument="IMAGE"),
    Action("upgrade", "i", "Change image in place", "do", BOXES, True, ("patch", "sandboxes"), argument="IMAGE"),
    Action("restart", "r", "Renew all members", "do", ("pools",), True, ("patch", "sandboxsets")),
    Action("pause", "p", "Pause", "do", BOXES, True, ("patch", "sandboxes"), bar=True),
    Action("resume", "u", "Resume", "do", BOXES, True, ("patch", "sandboxes"), aliases=("unpause",), bar=True),
    Action("extend", "t", "Extend the timeout", "do", BOXES, True, ("patch", "sandboxes"), ("timeout",), "5m", True),
    Action("kill", "ctrl+d", "Kill", "do", BOXES, True, ("delete", "sandboxes"), ("delete",), bar=True),
    Action("drop", "ctrl+d", "Delete the pool", "do", ("pools",), True, ("delete", "sandboxsets")),
    Action("forget", "ctrl+d", "Delete the claim", "do", ("claims",), True, ("delete", "sandboxclaims")),
    Action("play", "full_stop", "Play or hold", "replay", replay=True, bar=True),
    Action("seek", "", "Go to a time of the recording", "replay", argument="50%|+30|-30|HH:MM:SS", replay=True),
    Action("forward", "right", "10 s forward", "replay", replay=True, bar=True),
    Action("rewind", "left", "10 s back", "replay", replay=True),
    Action("faster", "greater_than_sign", "Faster", "replay", replay=True, bar=True),
    Action("slower", "less_than_sign", "Slower", "replay", replay=True),
    Action("command", "colon", "Command line", "app", bar=True),
    Action("palette", "ctrl+p", "Palette of all actions", "app"),
    Action("theme", "", "Theme", "app", argument="[NAME]", aliases=("skin",)),
    Action("screenshot", "", "Save an SVG of the screen", "app", argument="[FILE]"),
    Action("help", "question_mark,f1", "Help", "app", bar=True),
    Action("quit", "ctrl+c", "Quit", "app", aliases=("q", "exit")),
)  # fmt: skip

BY_NAME: Final = {action.name: action for action in ACTIONS}
GROUPS: Final = {
    "go": "Go to",
    "see": "See",
    "mark": "Mark",
    "move": "Move",
    "one": "Look into",
    "do": "Do",
    "replay": "Recording",
    "app": "Application",
}


def bindings(screen: str) -> list[Binding]:
    """The key bindings of one screen; their ids are the actions' names, so that a configuration can move them."""
    return [
        Binding(action.keys, f"act({action.name!r})", action.title, show=False, id=action.name, priority=_first(action))
        for action in ACTIONS
        if action.keys and action.belongs(screen)
    ]


def _first(action: Action) -> bool:
    """Keys that Textual's own bindings would take first."""
    return action.name in ("quit", "palette", "next_tab", "previous_tab", "leave")


def named(word: str) -> Action | None:
    """The action of that name or alias, or the only one that begins with it."""
    word = word.lower()
    for action in ACTIONS:
        if word == action.name or word in action.aliases:
            return action
    begun = [action for action in ACTIONS if action.name.startswith(word)]
    return begun[0] if len(begun) == 1 else None
