"""Leader election against a small in-memory Lease with optimistic locking, and a clock turned by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from appliance.api.corestructs import Lease
from appliance.kube import errors
from appliance.kube.lease import LeaderElection, LeadershipLost


class OneLease:
    """The part of a cluster that an election uses."""

    def __init__(self) -> None:
        self.object: dict[str, Any] | None = None
        self.version = 0
        self.failure: Callable[[], Exception] | None = None
        self.writes = 0

    def _answer(self) -> Lease:
        assert self.object is not None
        return msgspec.convert({"metadata": {"name": "l", "resourceVersion": str(self.version)}, **self.object}, Lease)

    def _maybe_fail(self) -> None:
        if self.failure is not None:
            raise self.failure()

    async def get(self, *_: Any) -> Lease:
        self._maybe_fail()
        if self.object is None:
            raise errors.NotFound(404)
        return self._answer()

    async def create(self, kind: Any, namespace: str, body: dict[str, Any]) -> Lease:
        self._maybe_fail()
        if self.object is not None:
            raise errors.AlreadyExists(409)
        return self.write(body["spec"])

    async def patch(self, *args: Any, resource_version: str) -> Lease:
        self._maybe_fail()
        if resource_version != str(self.version):
            raise errors.Conflict(409)
        assert self.object is not None
        merged = {**self.object["spec"], **args[3]["spec"]}
        return self.write({name: value for name, value in merged.items() if value is not None})

    def write(self, spec: dict[str, Any]) -> Lease:
        self.writes += 1
        self.version += 1
        self.object = {"spec": spec}
        return self._answer()

    @property
    def holder(self) -> str | None:
        return self.object["spec"].get("holderIdentity") if self.object else None


def candidate(lease: OneLease, name: str, clock: Any) -> LeaderElection:
    return LeaderElection(lease, "ns", "l", name, clock=clock)  # type: ignore[arg-type]


async def start(election: LeaderElection, clock: Any) -> asyncio.Task[Any]:
    task = asyncio.create_task(election.__aenter__())
    await clock.advance(0)
    return task


async def test_the_first_takes_it_and_gives_it_back(clock: Any) -> None:
    """An absent lease is created; leaving the block frees it for the next without waiting."""
    lease = OneLease()
    async with candidate(lease, "a", clock) as election:
        assert election.is_leader
        assert lease.holder == "a"
    assert lease.holder is None
    async with candidate(lease, "b", clock):
        assert lease.holder == "b"
        assert lease.object and lease.object["spec"]["leaseTransitions"] == 1


async def test_the_second_waits_while_the_first_renews(clock: Any) -> None:
    """A holder that renews keeps the lease for longer than its duration; the other never acts."""
    lease = OneLease()
    async with candidate(lease, "a", clock) as first:
        second = candidate(lease, "b", clock)
        waiting = await start(second, clock)
        for _ in range(20):
            await clock.advance(2)
            assert first.is_leader and not second.is_leader
            assert not waiting.done()
    await clock.advance(2)
    assert await waiting
    assert second.is_leader
    await second.__aexit__()


async def test_a_dead_holder_is_replaced_after_the_duration(clock: Any) -> None:
    """The time is counted from when the other first saw the lease, not from the holder's clock."""
    lease = OneLease()
    lease.write({"holderIdentity": "dead", "leaseDurationSeconds": 15, "renewTime": "2099-01-01T00:00:00.000000Z"})
    second = candidate(lease, "b", clock)
    waiting = await start(second, clock)
    for _ in range(7):
        await clock.advance(2)
    assert not waiting.done()
    await clock.advance(2)
    assert await waiting
    assert lease.holder == "b"
    await second.__aexit__()


async def test_a_leader_that_cannot_renew_stops_before_another_may_start(clock: Any) -> None:
    """After renew_deadline without success the work is cancelled, before the lease's duration is over."""
    lease = OneLease()
    election = candidate(lease, "a", clock)
    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    run = asyncio.create_task(election.run(work))
    await clock.advance(0)
    lease.failure = lambda: errors.Unreachable("down")
    for _ in range(4):
        await clock.advance(2)
    assert election.is_leader and not cancelled.is_set()
    await clock.advance(2)
    assert cancelled.is_set()
    with pytest.raises(LeadershipLost):
        await run
    assert not election.is_leader


async def test_a_leader_that_was_robbed_notices_at_the_next_renewal(clock: Any) -> None:
    """Somebody else's name in the lease ends leadership at once."""
    lease = OneLease()
    election = await candidate(lease, "a", clock).__aenter__()
    await clock.advance(0)
    lease.write({"holderIdentity": "thief", "leaseDurationSeconds": 15})
    await clock.advance(2)
    assert election.lost.is_set()
    await election.__aexit__()
    assert lease.holder == "thief"


async def test_of_two_that_race_one_wins(clock: Any) -> None:
    """Both see a free lease; the version guard lets only one write through."""
    lease = OneLease()
    lease.write({})
    elections = [candidate(lease, name, clock) for name in "ab"]
    tasks = [await start(election, clock) for election in elections]
    await clock.advance(2)
    assert [election.is_leader for election in elections].count(True) == 1
    for task, election in zip(tasks, elections, strict=True):
        if task.done():
            await election.__aexit__()
        else:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_callbacks_own_end_is_passed_on(clock: Any) -> None:
    """run returns or raises as the callback does, and frees the lease either way."""
    lease = OneLease()

    async def fails() -> None:
        raise KeyError("work")

    with pytest.raises(KeyError):
        await candidate(lease, "a", clock).run(fails)
    assert lease.holder is None


def test_impossible_times_are_refused() -> None:
    """A deadline beyond the duration would let two leaders act."""
    with pytest.raises(ValueError, match="renew_deadline"):
        LeaderElection(OneLease(), "ns", "l", "a", renew_deadline=20)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="identity"):
        LeaderElection(OneLease(), "ns", "l", "")  # type: ignore[arg-type]
