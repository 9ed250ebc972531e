"""A shell in a sandbox on a screen of the deck, with real programs on real pseudo-terminals behind a real WebSocket."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from decks import FixedSource, busy_changes
from exec_server import ExecServer, exec_server
from fake_cluster import FakeServer
from textual import events
from textual.pilot import Pilot

from tui.act.inside import STDIN
from tui.act.session import MESSAGE, TYPED, Shell
from tui.app import Deck
from tui.screens.listing import SandboxesScreen
from tui.screens.shell import ShellScreen
from tui.widgets.terminal import TerminalView

SHELL = ["/bin/sh", "-i"]
CURSES = r"""
import curses
def main(screen):
    curses.start_color(); curses.use_default_colors(); curses.init_pair(1, curses.COLOR_RED, -1)
    screen.border(); screen.addstr(1, 2, "first", curses.color_pair(1)); screen.hline(2, 2, "=", 30)
    while True:
        lines, columns = screen.getmaxyx()
        screen.addstr(3, 2, f"{columns}x{lines}  ")
        key = screen.getch()
        if key == ord("q"):
            break
        if key != curses.KEY_RESIZE:
            screen.addstr(4, 2, curses.keyname(key))
curses.wrapper(main)
print("left")
"""


RAW = r"""
import sys, tty
tty.setraw(0)
print("ready\r")
while key := sys.stdin.buffer.raw.read(1):
    print(key[0], end=" ", flush=True)
"""


@asynccontextmanager
async def opened(
    server: ExecServer, place: Path, size: tuple[int, int] = (100, 30), **options: Any
) -> AsyncIterator[Pilot[None]]:
    """A deck whose sandboxes run the server's program; the shell of the first one is open."""
    async with exec_server(server, place) as settings:
        cluster = FakeServer().cluster()
        cluster.settings = settings
        deck = Deck(FixedSource(busy_changes(), cluster=cluster), clock_paused=True, **options)
        async with deck.run_test(size=size) as pilot:
            await pilot.press("3")
            await pilot.press("s")
            yield pilot


async def until(pilot: Pilot[None], shown: Callable[[], object]) -> None:
    """Wait for what is expected."""
    async with asyncio.timeout(60):
        while not shown():
            await pilot.pause(0.01)


def words(pilot: Pilot[None]) -> str:
    """What the terminal shows."""
    return pilot.app.screen.query_one(TerminalView).plain if isinstance(pilot.app.screen, ShellScreen) else ""


async def type_in(pilot: Pilot[None], text: str) -> None:
    """Type a line."""
    for letter in text:
        await pilot.press({" ": "space", "(": "left_parenthesis", ")": "right_parenthesis"}.get(letter, letter))
    await pilot.press("enter")


async def test_a_shell_is_typed_into_resized_and_left(tmp_path: Path) -> None:
    """It knows the size of its part of the screen, also after it changed; exit leads back to where it was opened."""
    server = ExecServer(SHELL)
    async with opened(server, tmp_path) as pilot:
        await until(pilot, lambda: "$" in words(pilot) or "#" in words(pilot))
        assert "bash -l" in server.asked[0][-1]
        await type_in(pilot, "echo $((6*7))")
        await until(pilot, lambda: "\n42" in words(pilot))
        assert server.sizes[-1] == (100, 27)
        await pilot.resize_terminal(70, 20)
        await until(pilot, lambda: server.sizes[-1] == (70, 17))
        await type_in(pilot, "stty size")
        await until(pilot, lambda: "17 70" in words(pilot))
        await type_in(pilot, "exit")
        await until(pilot, lambda: isinstance(pilot.app.screen, SandboxesScreen))
        await asyncio.wait_for(server.ended.wait(), 30)


@pytest.mark.parametrize("way", ["key", "deck"])
async def test_leaving_hangs_up(way: str, tmp_path: Path) -> None:
    """The key that leaves, and the end of the deck (a visitor who vanished): nothing runs on in the sandbox."""
    server = ExecServer(SHELL)
    async with opened(server, tmp_path) as pilot:
        await until(pilot, lambda: "$" in words(pilot) or "#" in words(pilot))
        await type_in(pilot, "sleep 1000")
        if way == "key":
            await pilot.press("ctrl+right_square_bracket")
            await until(pilot, lambda: isinstance(pilot.app.screen, SandboxesScreen))
            await asyncio.wait_for(server.ended.wait(), 30)
        else:
            pilot.app.exit()
            await asyncio.wait_for(server.ended.wait(), 30)
    assert not Path(f"/proc/{server.pids[0]}").exists()


async def test_a_runtime_that_keeps_the_terminal_is_asked_to_hang_up(tmp_path: Path) -> None:
    """The shell has told its process id, unseen; leaving sends it the signal that a lost terminal would."""
    server = ExecServer(keeps=True)
    async with opened(server, tmp_path) as pilot:
        await until(pilot, lambda: "$" in words(pilot) or "#" in words(pilot))
        await type_in(pilot, "echo $((6*7))")
        await until(pilot, lambda: "\n42" in words(pilot))
        assert str(server.pids[0]) not in words(pilot)
        await pilot.press("ctrl+right_square_bracket")
        await until(pilot, lambda: isinstance(pilot.app.screen, SandboxesScreen))
        await until(pilot, lambda: len(server.asked) == 2)
        assert server.asked[1][:2] == ["/bin/sh", "-c"] and server.asked[1][-1] == str(server.pids[0])
        await asyncio.wait_for(server.ended.wait(), 30)
    os.close(server.kept[0])


async def test_every_other_key_is_the_programs(tmp_path: Path) -> None:
    """Also those that the deck has elsewhere: quit, palette, back, help, command line, tab."""
    async with opened(ExecServer([sys.executable, "-c", RAW]), tmp_path) as pilot:
        await until(pilot, lambda: "ready" in words(pilot))
        keys = ["ctrl+q", "ctrl+p", "ctrl+c", "escape", "question_mark", "colon", "tab", "ctrl+d", "1", "s", "slash"]
        await pilot.press(*keys)
        await until(pilot, lambda: "17 16 3 27 63 58 9 4 49 115 47" in words(pilot))
        assert isinstance(pilot.app.screen, ShellScreen)


async def test_a_program_of_the_whole_screen(tmp_path: Path) -> None:
    """Curses: colours, lines, the other screen, keys by name, a new size, and the old screen afterwards."""
    async with opened(ExecServer([sys.executable, "-c", CURSES]), tmp_path) as pilot:
        await until(pilot, lambda: "first" in words(pilot) and "┌" in words(pilot) and "=" * 30 in words(pilot))
        await pilot.press("up")
        await until(pilot, lambda: "KEY_UP" in words(pilot))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: "80x21" in words(pilot))
        await pilot.press("q")
        await until(pilot, lambda: isinstance(pilot.app.screen, SandboxesScreen))


async def test_the_interactive_interpreter(tmp_path: Path) -> None:
    """Python's own line editing; a paste arrives as it was copied."""
    async with opened(ExecServer([sys.executable, "-q", "-i", "-c", "1"]), tmp_path) as pilot:
        await until(pilot, lambda: ">>>" in words(pilot))
        pilot.app.screen.query_one(TerminalView).post_message(events.Paste("sum(range(10))"))
        await pilot.press("enter")
        await until(pilot, lambda: "\n45" in words(pilot))
        await type_in(pilot, "6*7")
        await pilot.press("up", "left", "1", "enter")
        await until(pilot, lambda: "\n42" in words(pilot) and "\n102" in words(pilot))


async def test_a_flood_does_not_deafen(tmp_path: Path) -> None:
    """However much is printed, keys are heard; what scrolled off can be looked at."""
    async with opened(ExecServer(SHELL), tmp_path) as pilot:
        await until(pilot, lambda: "$" in words(pilot) or "#" in words(pilot))
        await type_in(pilot, "yes")
        await until(pilot, lambda: words(pilot).count("\ny") > 20)
        await pilot.press("ctrl+c")
        await type_in(pilot, "echo heard")
        await until(pilot, lambda: "\nheard" in words(pilot))
        view = pilot.app.screen.query_one(TerminalView)
        await pilot.press("shift+pageup")
        assert view.emulator.view_offset() == view.size.height // 2
        await pilot.press("shift+pagedown")
        assert view.emulator.view_offset() == 0


@pytest.mark.parametrize(("status", "said"), [(403, "not allowed: "), (500, "500")])
async def test_a_shell_that_is_refused_is_said(status: int, said: str, tmp_path: Path) -> None:
    """The deck comes back and says why; what is forbidden is remembered as such."""
    async with opened(ExecServer(SHELL, status), tmp_path) as pilot:
        screen: Any = pilot.app.screen
        await until(pilot, lambda: isinstance(pilot.app.screen, SandboxesScreen) and pilot.app.screen.flashed)
        screen = pilot.app.screen
        assert said in screen.flashed
        assert ("shell" in screen.deck.refused) == (status == 403)


async def test_without_a_cluster_there_is_no_shell() -> None:
    """Before the first connection the key says so."""
    deck = Deck(FixedSource(busy_changes()), clock_paused=True)
    async with deck.run_test() as pilot:
        await pilot.press("3", "s")
        await pilot.pause()
        assert "not connected" in pilot.app.screen.flashed  # type: ignore[attr-defined]


class SlowSocket:
    """Takes one message whenever it is told to."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.may = asyncio.Event()

    async def send_bytes(self, data: bytes) -> None:
        await self.may.wait()
        self.taken.append(data)


async def test_what_is_typed_waits_up_to_a_limit_and_only_the_last_size_counts() -> None:
    """A sandbox that takes nothing costs bounded memory; nothing is lost or out of order."""
    socket = SlowSocket()
    shell = Shell(socket)  # type: ignore[arg-type]
    assert shell.send(b"a" * (TYPED - 1))
    assert not shell.send(b"bb") and shell.send(b"b") and not shell.send(b"c")
    shell.resize(1, 1)
    shell.resize(80, 24)
    carrying = asyncio.create_task(shell.carry())
    socket.may.set()
    async with asyncio.timeout(30):
        while len(socket.taken) < 2 + TYPED // MESSAGE:
            await asyncio.sleep(0)
    carrying.cancel()
    sizes = [json.loads(one[1:]) for one in socket.taken if one[0] != STDIN]
    assert sizes == [{"Width": 80, "Height": 24}]
    assert b"".join(one[1:] for one in socket.taken if one[0] == STDIN) == b"a" * (TYPED - 1) + b"b"
    assert shell.send(b"c" * TYPED)
