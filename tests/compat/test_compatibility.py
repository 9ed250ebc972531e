"""The compatibility table holds: what worked with a release still does (packaging/compat.sh makes the table)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import run
import table

RELEASES = Path(__file__).parent / "releases"


@pytest.mark.box
@pytest.mark.compat
@pytest.mark.timeout(1800)
def test_no_cell_that_worked_is_lost() -> None:
    """Every pinned release of every client runs its features against one box; each ✓ of the table is seen again."""
    if "APPLIANCE_TEST_COMPAT" not in os.environ:
        pytest.skip("APPLIANCE_TEST_COMPAT is unset; packaging/compat.sh --install installs the releases and prints it")
    cache = Path(os.environ["APPLIANCE_TEST_COMPAT"])
    before = table.read()
    cells = run.measure([], cache, brief=True)
    again = [place.name for place in sorted(RELEASES.iterdir()) if table.lost(before, cells, run.pinned(place))]
    if again:  # alone on the box: a crowded machine is not a lost feature
        cells = run.measure(again, cache, at_once=1, brief=True)
    assert table.regressions(before, cells) == []


def test_the_documents_are_what_the_results_say() -> None:
    """Page and summary are written from results.json, which covers every pinned release."""
    cells = table.read()
    assert table.render(cells) in table.PAGE.read_text()
    assert table.summary(cells) in table.README.read_text()
    wanted = {pair for directory in RELEASES.iterdir() for pair in run.pinned(directory).items()}
    assert {(client, version) for client, versions in cells.items() for version in versions} == wanted


def test_a_lost_cell_is_named() -> None:
    """Only a ✓ that became something else counts; a feature that was not run is told from one that failed."""
    before = {"c": {"1": {"a": "ok", "b": "absent", "d": "ok"}, "2": {"a": "ok"}}}
    assert table.regressions(before, {"c": {"1": {"a": "Error: x", "b": "Error: y"}}}) == [
        "c 1: a: Error: x",
        "c 1: d: was not run",
    ]
