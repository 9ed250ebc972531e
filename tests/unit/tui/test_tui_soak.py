"""Ten thousand sandboxes under change: what a frame leaves behind does not pile up."""

from __future__ import annotations

import gc
import itertools

import pytest
from decks import T0, FixedSource, gone, pool, put, sandbox

from tui.app import FRAME, Deck
from tui.model import deliveries, world
from tui.widgets import painter

OBJECTS = 10_000
AT_ONCE = 5
"""Sandboxes that come, that are delivered and that go in one frame: a hundred changes a second."""


def churn(source: FixedSource, frame: int) -> None:
    """Newcomers, deliveries of the last frame's, ends of those before: the fleet stays as large and as mixed."""
    for index in range(AT_ONCE):
        made, claimed, ended = (f"py-x{frame - back}-{index}" for back in range(3))
        source.world.apply(put(source.at, sandbox(made, at=source.at)))
        if ("default", claimed) in source.world.sandboxes:
            lock = f"lock-{claimed}"
            source.world.apply(put(source.at, sandbox(claimed, claimed=source.at, version=2, lock=lock)))
        if row := source.world.sandboxes.get(("default", ended)):
            source.world.apply(gone(source.at, row.source))


def containers() -> int:
    """Objects that can hold others and are alive, once garbage is gone."""
    while gc.collect():
        pass
    return len(gc.get_objects())


@pytest.mark.parametrize("screen", ["1", "3", "4"])
async def test_ten_thousand_sandboxes_leave_nothing_behind(screen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once what is remembered on purpose is full, a hundred frames leave no more than before; not each hundred, for
    what is under way when they are counted comes and goes.
    """
    monkeypatch.setattr(deliveries, "RECENT", 20)
    monkeypatch.setattr(world, "GONE", 20)
    monkeypatch.setattr(painter, "KEPT", 0)
    source = FixedSource([put(T0, pool("py", OBJECTS)), *(put(T0, sandbox(f"py-{n:05}")) for n in range(OBJECTS))])
    deck = Deck(source, clock_paused=True)
    async with deck.run_test(size=(160, 50)) as pilot:
        await pilot.press(screen)
        counts: list[int] = []
        for frame in range(400):
            source.at += FRAME
            churn(source, frame)
            deck.frame()
            await pilot.pause(0)
            if frame % 100 == 99:
                counts.append(containers())
        grown = [later - earlier for earlier, later in itertools.pairwise(counts)]
        assert min(grown) < 200, f"two objects a frame, every time: {grown}"
        assert len(source.world.sandboxes) == OBJECTS + 2 * AT_ONCE
