"""Deliveries under way are remembered beyond a process's death, and forgotten once they are answered or cleaned up."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.api import labels
from appliance.claims.errors import InitFailed
from appliance.claims.pledges import MAX_BYTES, Pledges
from appliance.kube import errors


@pytest.fixture
def path(tmp_path):
    """Where the pledges is."""
    return tmp_path / "manager.deliveries"


def left(path: Path) -> frozenset[str]:
    """What the next process finds."""
    pledges = Pledges(path)
    found = pledges.recover()
    pledges.shut()
    return found


def test_what_was_opened_and_not_closed_is_found(path):
    """Closed ones, and closing twice, leave nothing; a torn last line harms nobody; an unknown file is no error."""
    assert left(path) == frozenset()
    pledges = Pledges(path)
    for name in ("a", "b", "c"):
        pledges.open(name)
    pledges.close("b")
    pledges.close("b")
    with path.open("a") as file:
        file.write("-")
    assert left(path) == {"a", "c"}
    assert path.stat().st_mode & 0o777 == 0o600
    pledges.shut()


def test_the_file_stays_small(path):
    """Written anew with what is open when it has grown; nothing open is lost by that."""
    pledges = Pledges(path)
    pledges.open("kept")
    for number in range(MAX_BYTES // 16):
        pledges.open(f"delivery{number}")
        pledges.close(f"delivery{number}")
    assert path.stat().st_size < MAX_BYTES * 1.1
    assert left(path) == {"kept"}
    pledges.shut()


def test_a_disk_that_takes_nothing_is_said_and_ends_nothing(tmp_path, caplog):
    """Claims go on without the memory."""
    pledges = Pledges(tmp_path / "nowhere" / "x")
    pledges.open("a")
    pledges.close("a")
    assert "not remembered" in caplog.text


async def test_a_process_that_dies_before_it_answers_leaves_its_delivery_open(bench, ask, path):
    """Between the write and the answer the id is in the file; whoever answers strikes it out."""
    bench.stock(1)
    bench.runtime.hold = asyncio.Event()
    pledges = Pledges(path)
    engine = await bench.engine(pledges)
    claim = asyncio.create_task(engine.claim(ask()))
    await bench.runtime.called.wait()
    (taken,) = bench.claimed()
    assert path.read_text() == f"+{taken['metadata']['labels'][labels.SANDBOX_ID]}\n"
    bench.runtime.hold.set()
    claimed = await claim
    pledges.close(claimed.sandbox_id)
    assert left(path) == frozenset()
    await engine.drain()
    pledges.shut()


async def test_what_is_cleaned_up_is_struck_out(bench, ask, path):
    """A failed /init, a caller that goes away, a lost race and a refused write leave nothing open."""
    bench.stock(4)
    pledges = Pledges(path)
    engine = await bench.engine(pledges)
    bench.runtime.refuse = {f"10.0.0.{number}" for number in range(1, 5)}
    with pytest.raises(InitFailed):
        await engine.claim(ask(create_on_no_stock=False))
    await engine.drain()
    assert left(path) == frozenset()
    bench.runtime.refuse, bench.runtime.hold = set(), asyncio.Event()
    bench.runtime.called.clear()
    claim = asyncio.create_task(engine.claim(ask()))
    await bench.runtime.called.wait()
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    bench.runtime.hold.set()
    await engine.drain()
    assert left(path) == frozenset() and not bench.claimed()

    async def refuse(verb, path, do):
        raise errors.Forbidden(403, "Forbidden", "no")

    bench.stock(1, prefix="t")
    bench.server.trouble = refuse
    with pytest.raises(errors.Forbidden):
        await engine.claim(ask())
    assert left(path) == frozenset()
    pledges.shut()


async def test_a_request_that_is_asked_for_again_is_not_noted(bench, ask, path):
    """With an idempotency key the client comes back for what was made."""
    bench.stock(1)
    pledges = Pledges(path)
    engine = await bench.engine(pledges)
    await engine.claim(ask(noted=False))
    assert left(path) == frozenset()
