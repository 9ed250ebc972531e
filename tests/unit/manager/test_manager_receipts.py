"""A sandbox whose client left before it was told of it is killed; any other is not."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from appliance.api import labels
from appliance.claims.pledges import Pledges
from appliance.manager.receipts import HEADER, REMEMBERED, Receipts


class Ended:
    """Receipts over names, which sandboxes were ended and whose pledges were closed."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.closed: list[str] = []
        self.receipts = Receipts(lambda entry: self.ended.append(entry.sandbox_id), self.closed.append)

    def offer(self, number: str | None, name: str) -> None:
        entry: Any = SimpleNamespace(sandbox_id=name)
        self.receipts.offer(number, entry)


def test_a_lost_answer_ends_its_sandbox_in_either_order():
    """The gateway may know first, or the create."""
    case = Ended()
    case.offer("1", "a")
    case.receipts.settle("1", False)
    case.receipts.settle("2", False)
    case.offer("2", "b")
    assert case.ended == case.closed == ["a", "b"]


def test_a_pledge_is_open_until_the_answer_is_written():
    """Closed by the gateway's word, or at once for a request that did not come through it."""
    case = Ended()
    case.offer("1", "a")
    case.offer(None, "b")
    assert case.closed == ["b"]
    case.receipts.settle("1", True)
    assert case.closed == ["b", "a"] and case.ended == []


def test_a_delivered_answer_and_one_without_a_number_end_nothing():
    """Nor does a lost answer of another request, and each number counts once."""
    case = Ended()
    case.offer("1", "a")
    case.receipts.settle("1", True)
    case.receipts.settle("1", False)
    case.offer(None, "b")
    case.receipts.settle("9", False)
    assert case.ended == []


def test_numbers_of_lost_answers_are_bounded():
    """Most lost answers are not those of creates, and nobody ever asks for them again."""
    case = Ended()
    for number in range(3 * REMEMBERED):
        case.receipts.settle(str(number), False)
    assert len(case.receipts._lost) == REMEMBERED


async def test_a_create_offers_its_sandbox(world: Any) -> None:
    """Through the API: settled as lost, the sandbox is deleted and the API does not find it any more."""
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python"}, headers={HEADER: "7"})
    sandbox = (await answer.get_json())["sandboxID"]
    world.wired.receipts.settle("7", False)
    await asyncio.gather(*world.lifecycle._kills)
    assert (await world.call("GET", f"/sandboxes/{sandbox}")).status_code == 404
    assert [item for item in world.caches.sandboxes.items() if item.meta.labels.get(labels.SANDBOX_ID) == sandbox] == []


async def test_a_create_is_among_the_pledges_until_its_answer_is_written(world: Any) -> None:
    """A manager that is killed before that kills the sandbox at its next start, one that is killed later does not."""
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python"}, headers={HEADER: "7"})
    sandbox = (await answer.get_json())["sandboxID"]
    assert world.pledges._open == {sandbox}
    next_manager = Pledges(world.pledges._path)
    assert next_manager.recover() == {sandbox}
    next_manager.shut()
    world.wired.receipts.settle("7", True)
    await world.create()
    assert world.pledges._open == set()


async def test_a_create_that_can_be_repeated_takes_no_part(world: Any) -> None:
    """Its client comes back with the same key, and gets the same sandbox."""
    headers = {HEADER: "7", "Idempotency-Key": "once"}
    first = await world.call("POST", "/v2/sandboxes", json={"templateID": "python"}, headers=headers)
    world.wired.receipts.settle("7", False)
    again = await world.call("POST", "/v2/sandboxes", json={"templateID": "python"}, headers={**headers, HEADER: "8"})
    assert (await again.get_json())["sandboxID"] == (await first.get_json())["sandboxID"]
    assert world.wired.receipts.discarded == 0
