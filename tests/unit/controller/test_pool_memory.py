"""When a pool's refill steps back."""

from __future__ import annotations

import pytest

from appliance.controller.pool_memory import BUSY_CLAIMS, CLAIMS_WINDOW, PoolMemory


@pytest.mark.parametrize(
    ("claims", "available", "since", "waits"),
    [
        (BUSY_CLAIMS, 50, 0.0, True),
        (BUSY_CLAIMS - 1, 99, 0.0, False),
        (BUSY_CLAIMS, 49, 0.0, False),
        (BUSY_CLAIMS, 50, CLAIMS_WINDOW, False),
        (5 * BUSY_CLAIMS, 50, CLAIMS_WINDOW / 2, True),
    ],
    ids=["a burst", "a few claims", "less than half left", "a burst that is over", "a long burst"],
)
def test_the_refill_waits_for_a_burst_of_claims(claims: int, available: int, since: float, waits: bool) -> None:
    """Only for a burst, only while half of the pool is left, and never longer than the window."""
    memory = PoolMemory(16, 64)
    for _ in range(claims):
        memory.note_claim(100.0)
    wait = memory.claims_first(available, 100, 100.0 + since)
    assert (wait is not None) is waits
    assert wait is None or 0 < wait <= CLAIMS_WINDOW
