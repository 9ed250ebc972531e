"""Claims, refills and a rolling update on a real API server with simulated nodes, by the benchmark's own scenarios.

Nothing here looks at a clock: what is asserted are the counts that must hold on the slowest machine, the API requests
per claim and per pool member above all. ``tests/bench/claims_on_kubernetes.py`` prints the times.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from simulated_nodes import missing

BENCH = Path(__file__).parents[1] / "bench" / "claims_on_kubernetes.py"
SCENARIOS = ("member", "alone", "flight20", "burst", "gone", "empty", "rolling")
pytestmark = pytest.mark.realkube


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """One run of all scenarios at a quarter of their size; what it printed, by scenario."""
    if why := missing():
        pytest.skip(why)
    path = tmp_path_factory.mktemp("claims") / "rows.json"
    done = subprocess.run(
        [sys.executable, str(BENCH), *SCENARIOS, "--scale", "0.25", "--json", str(path)],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return {row["scenario"]: row for row in json.loads(path.read_text())}


def _requests(row: dict[str, Any], component: str) -> tuple[float, float]:
    writes, _, reads = row["requests w+r"].get(component, "0+0").partition("+")
    return float(writes), float(reads)


@pytest.mark.timeout(660)
def test_nothing_is_lost_doubled_or_refused(rows: dict[str, dict[str, Any]]) -> None:
    """No error, no sandbox with two owners, none that stays claimed without a client that knows it."""
    for row in rows.values():
        assert (row["errors"], row["two owners"], row["unknown"]) == ({}, 0, 0), row


def test_a_claim_is_one_write_and_nobody_reads(rows: dict[str, dict[str, Any]]) -> None:
    """The manager's guarded patch, at most one status of the controller; no read of either."""
    alone = rows["alone"]
    assert _requests(alone, "manager") == (1.0, 0.0)
    writes, reads = _requests(alone, "controller")
    assert writes <= 1.0 and reads == 0.0


def test_a_pool_member_is_at_most_four_writes(rows: dict[str, dict[str, Any]]) -> None:
    """Creation, pod, status, and a share of the set's own status."""
    (refill,) = (row for name, row in rows.items() if name.startswith("refill"))
    assert _requests(refill, "controller")[0] <= 4.0


def test_nothing_is_created_while_there_is_stock(rows: dict[str, dict[str, Any]]) -> None:
    """Not with twenty in flight and not in a burst; with an empty pool every claim makes its own."""
    assert rows["20 in flight"]["created"] == rows["burst 300"]["created"] == 0
    assert rows["empty pool, 20 in flight"]["created"] == rows["empty pool, 20 in flight"]["claims"]


def test_a_rolling_update_leaves_claims_alone(rows: dict[str, dict[str, Any]]) -> None:
    """Claims go on succeeding while every member is replaced; the benchmark fails when a claimed one is deleted."""
    (update,) = (row for name, row in rows.items() if name.startswith("rolling"))
    assert update["claims"] == 25
