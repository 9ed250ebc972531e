"""The live table's painting: a line is made once and goes with its object wherever that stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from decks import T0, FixedSource, gone, pool, put, sandbox
from rich.segment import Segment
from rich.style import Style
from textual.pilot import Pilot
from textual.screen import Screen
from textual.strip import Strip

from tui.app import Deck
from tui.view.cells import UNICODE
from tui.view.columns import Filter, Order, arrange
from tui.view.tables import SANDBOX_COLUMNS
from tui.widgets.painter import KEPT, Painter, Window
from tui.widgets.strips import free_of_cycles
from tui.widgets.table import LiveTable

PLACE = 500
"""Of the cursor, far from both ends."""


@asynccontextmanager
async def deep() -> AsyncIterator[tuple[Pilot[None], FixedSource, LiveTable]]:
    """A thousand sandboxes with the cursor in their middle."""
    source = FixedSource([put(T0, pool("py", 1)), *(put(T0, sandbox(f"py-{n:04}")) for n in range(1000))])
    deck = Deck(source, clock_paused=True)
    async with deck.run_test(size=(120, 30)) as pilot:
        await pilot.press("3")
        await pilot.pause()
        live = deck.screen.query_one(LiveTable)
        live.go(PLACE)
        await pilot.pause()
        yield pilot, source, live


def lines(live: LiveTable) -> list[Any]:
    """The strips on the screen, without the header."""
    return [live.render_line(y) for y in range(1, live.size.height)]


async def test_what_is_inserted_above_moves_no_line_and_paints_none() -> None:
    """The lines on the screen are the very same objects at the same places after insertions and removals above."""
    async with deep() as (pilot, source, live):
        before, key = lines(live), live.cursor_key
        for n in range(7):
            source.world.apply(put(T0, sandbox(f"aa-{n}")))
        source.world.apply(gone(T0, source.world.sandboxes["default", "py-0003"].source))
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        await pilot.pause()
        assert live.cursor_key == key and live._cursor == PLACE + 6
        assert all(one is other for one, other in zip(before, lines(live), strict=True))


async def test_a_line_that_moves_is_not_made_anew() -> None:
    """What is inserted between visible lines pushes the others away as they are; only the newcomer is painted."""
    async with deep() as (pilot, source, live):
        before, new = lines(live), live._cursor - round(live.scroll_y) - 5
        source.world.apply(put(T0, sandbox(f"py-{PLACE - 5:04}x")))
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        await pilot.pause()
        after = lines(live)
        assert f"py-{PLACE - 5:04}x" in after[new].text
        assert all(one is other for one, other in zip(before[1 : new + 1], after[:new], strict=True))
        assert all(one is other for one, other in zip(before[new + 1 :], after[new + 1 :], strict=True))


async def test_a_second_paints_only_lines_whose_words_turn() -> None:
    """A second later, lines whose ages and timers read the same are kept; a changed object's line is not."""
    async with deep() as (pilot, source, live):
        source.at = T0 + 7 * 60
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        before, place = lines(live), live._cursor - round(live.scroll_y)
        source.at += 1
        source.world.apply(put(source.at, sandbox(f"py-{PLACE:04}", ready=False, phase="Pending", version=2)))
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        changed = [y for y, (one, other) in enumerate(zip(before, lines(live), strict=True)) if one is not other]
        assert changed == [place]


class Plain:
    """A palette without colours."""

    base = Style()

    def style(self, tone: str, over: str = "") -> Style:
        """Nothing for any tone, bold for what lies over it."""
        return Style(bold=bool(over))


@pytest.mark.parametrize("mark", [("cursor", False), ("mark", True), ("", True)])
def test_the_look_of_a_line_makes_another_line(mark: tuple[str, bool]) -> None:
    """Cursor and mark are no part of the row, and still change its line; going back paints the first look again."""
    source = FixedSource([put(T0, sandbox("py-1"))])
    painter = Painter(Plain(), UNICODE)  # type: ignore[arg-type]
    painter.look_through(Window(tuple((column, 12) for column in SANDBOX_COLUMNS), 0, 200))
    [row] = source.world.sandbox_rows()
    bare = painter.row(row, "", False, T0)
    assert painter.row(replace(row), "", False, T0 + 0.5) is bare
    assert painter.row(row, *mark, T0) != bare
    assert painter.row(row, "", False, T0) == bare
    assert bare.cell_length == 200


def test_what_a_cluster_says_cannot_steer_the_terminal() -> None:
    """Line ends and escape codes in an object's message are shown as marks, in a line of the right width."""
    wild = sandbox("py-1", phase="Pending", ready=False, message="one\ntwo \x1b[2J\x9b31m three")
    painter = Painter(Plain(), UNICODE)  # type: ignore[arg-type]
    painter.look_through(Window(tuple((column, 40) for column in SANDBOX_COLUMNS), 0, 500))
    [row] = FixedSource([put(T0, wild)]).world.sandbox_rows()
    line = painter.row(row, "", False, T0)
    assert "one?two ?[2J?31m three" in line.text
    assert line.cell_length == 500 and line.text.isprintable()


def test_lines_that_are_out_of_sight_are_forgotten() -> None:
    """However far one scrolls, no more lines are kept than twice the bound; those still asked for stay the same."""
    source = FixedSource([put(T0, sandbox(f"py-{n:04}")) for n in range(5 * KEPT)])
    painter = Painter(Plain(), UNICODE)  # type: ignore[arg-type]
    painter.look_through(Window(tuple((column, 12) for column in SANDBOX_COLUMNS), 0, 200))
    first, *others = source.world.sandbox_rows()
    strip = painter.row(first, "", False, T0)
    for row in others:
        painter.row(row, "", False, T0)
        assert painter.row(first, "", False, T0) is strip
        assert len(painter._rows) + len(painter._older) <= 2 * KEPT
    assert others[0].key not in painter._rows and others[0].key not in painter._older


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (Order("end"), ["c", "a", "b", "d"]),
        (Order("end", reverse=True), ["a", "c", "b", "d"]),
        (Order("template"), ["a", "b", "c", "d"]),
        (Order("template", reverse=True), ["a", "b", "c", "d"]),
        (Order("name", reverse=True), ["d", "c", "b", "a"]),
    ],
)
def test_rows_without_a_value_come_last_in_either_direction(order: Order, expected: Sequence[str]) -> None:
    """Sorting by a timer that only some have keeps the others at the end, ties in the order of their names."""
    ends = {"a": T0 + 50, "b": None, "c": T0 + 20, "d": None}
    changes = [put(T0, sandbox(name, shutdown=at, claimed=T0 - 1)) for name, at in reversed(ends.items())]
    rows = FixedSource(changes).world.sandbox_rows()
    assert [row.key[1] for row in arrange(rows[::-1], Filter(), order, SANDBOX_COLUMNS)] == expected


async def test_insertions_above_ask_for_nothing_to_be_painted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The offset moves with the rows, the lines stay: nothing is to be painted, and two lines when the cursor moves."""
    async with deep() as (pilot, source, live):
        asked: list[int] = []
        monkeypatch.setattr(live, "refresh", lambda *regions, **options: asked.append(len(regions)))
        offset = live.scroll_y
        source.world.apply(put(T0, sandbox("aa-0")))
        source.world.apply(gone(T0, source.world.sandboxes["default", "py-0999"].source))
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        assert live.scroll_y == offset + 1
        assert asked == []
        live.move(-1)
        assert asked == [2]


def remembered(strip: Strip) -> list[Strip]:
    """What a strip remembers to have been made of it."""
    caches = (strip._divide_cache, strip._crop_cache, strip._crop_extend_cache, strip._filter_cache)
    made = [one for cache in caches for one in cache._cache.values()]
    return [strip for one in made for strip in (one if isinstance(one, list) else [one])]


def test_a_line_is_cut_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own ends it is itself, elsewhere its parts; it does not remember itself, which only a collection frees."""
    for method in ("divide", "crop_extend"):
        monkeypatch.setattr(Strip, method, getattr(Strip, method))  # is put back
    free_of_cycles()
    strip = Strip([Segment("abcd")])
    assert [one.text for one in strip.divide([1, 3, 4])] == ["a", "bc", "d"]
    assert [one is strip for one in strip.divide([4])] == [True] == [one is strip for one in strip.divide([4, 9])]
    assert strip.crop_extend(0, 4, None) is strip
    assert strip.crop_extend(1, 6, None).text == "bcd  "
    assert not [one for one in remembered(strip) if one is strip]


async def test_a_row_more_does_not_arrange_the_screen_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer table is a shorter thumb of its scroll bar, and nothing else moves; a bar that goes does move things."""
    async with deep() as (pilot, source, live):
        arranged: list[bool] = []
        arrange_screen = Screen._refresh_layout

        def watched(screen: Screen[None], *arguments: Any, **options: Any) -> None:
            arranged.append(True)
            arrange_screen(screen, *arguments, **options)

        monkeypatch.setattr(Screen, "_refresh_layout", watched)
        source.world.apply(put(T0, sandbox("py-new")))
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        await pilot.pause()
        assert arranged == [] and live.vertical_scrollbar.window_virtual_size == 1002
        pilot.app.screen.set_filter("py-new")  # type: ignore[attr-defined]
        pilot.app.screen.paint()  # type: ignore[attr-defined]
        await pilot.pause()
        assert arranged and not live.show_vertical_scrollbar
