"""Pictures of every screen, size and state, compared as SVG: what an operator sees, cell by cell and colour by colour.

``APPLIANCE_UPDATE_SNAPSHOTS=1 pytest tests/unit/tui/test_tui_snapshots.py`` draws them anew; look at the difference
before committing it.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import Any

import pytest
from decks import T0, FixedSource, busy_changes
from fake_cluster import FakeServer
from textual.scrollbar import ScrollBar

from tui.app import Deck
from tui.feed.replay import Player
from tui.screens.deck import DeckScreen
from tui.screens.shell import ShellScreen
from tui.view.cells import ASCII, PLAIN
from tui.widgets.plain import draw_plain_bars
from tui.widgets.terminal import TerminalView

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = {"wide": (120, 30), "usual": (80, 24), "phone": (40, 20)}
SCREENS = {"overview": "1", "pools": "2", "sandboxes": "3", "claims": "4"}


async def picture(keys: list[str], size: tuple[int, int], source: Any = None, theme: str = "", **options: Any) -> str:
    """The screen after those keys, as SVG without anything that differs from run to run."""
    deck = Deck(source or FixedSource(busy_changes()), clock_paused=True, **options)
    async with deck.run_test(size=size) as pilot:
        if theme:
            deck.theme = theme
        for key in keys:
            await pilot.press(key)
            await pilot.pause()
        if isinstance(deck.screen, DeckScreen):
            deck.screen.paint()
        await pilot.pause()
        svg = deck.export_screenshot(title="flight deck")
    return re.sub(r"terminal-\d+", "terminal", svg)


def compare(name: str, svg: str, tmp_path: Path) -> None:
    """The stored picture must be this one."""
    stored = SNAPSHOTS / f"{name}.svg"
    if os.environ.get("APPLIANCE_UPDATE_SNAPSHOTS"):
        stored.write_text(svg)
        return
    actual = tmp_path / f"{name}.svg"
    actual.write_text(svg)
    assert stored.exists(), f"no snapshot {stored}; see the module's docstring"
    assert svg == stored.read_text(), f"{name} looks different: compare {actual} with {stored}"


@pytest.mark.parametrize("size", list(SIZES))
@pytest.mark.parametrize("screen", list(SCREENS))
async def test_every_screen_at_every_size(screen: str, size: str, tmp_path: Path) -> None:
    """Wide, usual and phone terminals each show what matters of a busy fleet."""
    compare(f"{screen}-{size}", await picture([SCREENS[screen]], SIZES[size]), tmp_path)


@pytest.mark.parametrize("part", range(4))
async def test_the_parts_of_one_sandbox(part: int, tmp_path: Path) -> None:
    """Timeline, conditions, events and description of a sandbox that cannot start."""
    compare(f"one-{part}", await picture(["3", "enter", *["tab"] * part], (100, 26)), tmp_path)


@pytest.mark.parametrize("state", ["lost", "missing", "forbidden", "connecting"])
async def test_trouble_with_the_cluster(state: str, tmp_path: Path) -> None:
    """Connection lost, kinds missing, forbidden and not yet connected look intended, with the reason."""
    source = FixedSource(ready=False)
    source.worsen(state, "" if state == "connecting" else "the reason in the server's words")
    compare(f"trouble-{state}", await picture(["1"], (80, 24), source), tmp_path)


@pytest.mark.parametrize("screen", list(SCREENS))
async def test_an_empty_cluster(screen: str, tmp_path: Path) -> None:
    """A cluster with nothing in it says so and how to begin."""
    compare(f"empty-{screen}", await picture([SCREENS[screen]], (80, 24), FixedSource()), tmp_path)


async def test_a_light_theme(tmp_path: Path) -> None:
    """Every tone is readable on a light ground, with cursor and mark."""
    compare("light", await picture(["3", "space", "j"], (100, 24), theme="textual-light"), tmp_path)


async def test_no_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without colours states are told by glyphs and words."""
    monkeypatch.setenv("NO_COLOR", "1")
    compare("no-colour", await picture(["3"], (100, 24), glyphs=PLAIN), tmp_path)
    compare("no-colour-claims", await picture(["4"], (100, 24), glyphs=PLAIN), tmp_path)


async def test_no_unicode(tmp_path: Path) -> None:
    """A terminal that knows only ASCII gets nothing else."""
    svg = await picture(["2"], (100, 24), glyphs=ASCII)
    compare("ascii", svg, tmp_path)
    words = re.sub(r"<[^>]+>|&#\d+;", "", svg)
    assert words.isascii()


@pytest.mark.parametrize(
    "keys",
    [["1"], ["3"], ["4"], ["3", "question_mark"], ["3", "ctrl+d"], ["2", "ctrl+d"], ["2", "s", "9"], ["3", "t"],
     ["3", "ctrl+p"], ["3", "ctrl+p", "k"], ["3", "enter"], ["3", "enter", "d"], ["3", "slash", "p"], ["3", "ctrl+w"],
     ["3", "space", "space", "space", "space", "ctrl+d"]],
    ids=" ".join,
)  # fmt: skip
async def test_nothing_but_ascii_anywhere(keys: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames, scroll bars, palette and dialogs too are ASCII on a terminal without Unicode, also on a small one."""
    monkeypatch.setattr(ScrollBar, "renderer", ScrollBar.renderer)  # is put back
    draw_plain_bars()
    assert beyond_ascii(await picture(keys, (60, 16), glyphs=ASCII)) == []


async def test_the_palette_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its list open, which takes it a moment."""
    monkeypatch.setattr(ScrollBar, "renderer", ScrollBar.renderer)
    draw_plain_bars()
    deck = Deck(FixedSource(busy_changes()), clock_paused=True, glyphs=ASCII)
    async with deck.run_test(size=(80, 24)) as pilot:
        await pilot.press("ctrl+p")
        async with asyncio.timeout(60):
            while not deck.screen.query("CommandList.--visible") or deck.screen.query("CommandList.--populating"):
                await pilot.pause(0.05)
        await pilot.pause()
        assert beyond_ascii(deck.export_screenshot()) == []


def beyond_ascii(svg: str) -> list[str]:
    """The characters of a picture that are none of ASCII."""
    words = re.sub(r"<style.*?</style>|<[^>]+>|&#\d+;", "", svg, flags=re.S)
    return [one for one in words if not one.isascii()]


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("help", ["3", "question_mark"]),
        ("kill", ["3", "ctrl+d"]),
        ("scale", ["2", "s", "9"]),
        ("filter", ["3", "slash", "p", "y"]),
        ("describe-pool", ["2", "d"]),
    ],
)
async def test_what_lies_over_a_screen(name: str, keys: list[str], tmp_path: Path) -> None:
    """Help, dialogs, prompt and descriptions."""
    compare(name, await picture(keys, (100, 26)), tmp_path)


async def test_a_recording(tmp_path: Path) -> None:
    """A held recording says where it is."""
    player = Player(busy_changes(), "incident", lambda: 0.0)
    player.paused = True
    player.seek(T0 - 4)
    compare("replay", await picture(["1"], (100, 24), player), tmp_path)


async def test_a_shell(tmp_path: Path) -> None:
    """Colours, attributes, wide characters and the cursor of a program, between the deck's own lines."""
    server = FakeServer()
    deck = Deck(FixedSource(busy_changes(), cluster=server.cluster()), clock_paused=True)
    async with deck.run_test(size=(80, 24)) as pilot:
        deck.push_screen(Printed(deck.source.cluster, ("default", "py-aaaa0")))  # type: ignore[arg-type]
        await pilot.pause()
        await pilot.pause()
        svg = deck.export_screenshot(title="flight deck")
    compare("shell", re.sub(r"terminal-\d+", "terminal", svg), tmp_path)


class Printed(ShellScreen):
    """A shell that has printed something."""

    def live(self) -> Any:  # type: ignore[override]
        """Nothing is opened."""
        rows = ["$ ls --color", "\x1b[01;34mbin\x1b[0m  \x1b[01;32mrun.sh\x1b[0m  \x1b[4;38;5;208mnotes\x1b[0m"]
        rows += [
            "".join(f"\x1b[48;5;{n}m{n:4}" for n in range(16, 31)) + "\x1b[0m",
            "\x1b[7m-- INSERT --\x1b[0m 中文 e\u0301",
        ]
        rows += ["\x1b[38;2;255;100;0mtrue\x1b[3mcolour\x1b[0m \x1b(0lqqk\x1b(B", "$ "]
        self.query_one(TerminalView).feed("\r\n".join(rows).encode())
