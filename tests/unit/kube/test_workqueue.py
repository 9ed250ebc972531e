"""The work queue: de-duplication, one task per key, back-off, delays, shutdown; with a clock turned by hand."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from appliance.kube import errors
from appliance.kube.workqueue import Requeue, WorkQueue


@asynccontextmanager
async def running(
    reconcile: Callable[[str], Awaitable[Requeue | None]], **options: Any
) -> AsyncIterator[WorkQueue[str]]:
    queue: WorkQueue[str] = WorkQueue(reconcile, **options)
    task = asyncio.create_task(queue.run())
    await settle()
    try:
        yield queue
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


class Work:
    """Records reconciles; blocks those of keys in ``blocked`` until released."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.running: list[str] = []
        self.most = 0
        self.gates: dict[str, asyncio.Event] = {}
        self.outcomes: list[Any] = []

    async def __call__(self, key: str) -> Requeue | None:
        assert key not in self.running, "one task per key"
        self.calls.append(key)
        self.running.append(key)
        self.most = max(self.most, len(self.running))
        try:
            if key in self.gates:
                await self.gates[key].wait()
            outcome = self.outcomes.pop(0) if self.outcomes else None
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            self.running.remove(key)


async def test_keys_are_queued_once_and_run_in_order(clock: Any) -> None:
    """Adding a waiting key again changes nothing; order is that of the first adding."""
    work = Work()
    queue: WorkQueue[str] = WorkQueue(work, workers=1, clock=clock)
    for key in "abacab":
        queue.add(key)
    assert len(queue) == 3
    task = asyncio.create_task(queue.run())
    await settle()
    assert work.calls == ["a", "b", "c"]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_key_added_while_it_runs_runs_once_more(clock: Any) -> None:
    """Changes during a reconcile are not lost, however many, and never worked on twice at once."""
    work = Work()
    work.gates["a"] = asyncio.Event()
    async with running(work, clock=clock) as queue:
        queue.add("a")
        await settle()
        for _ in range(5):
            queue.add("a")
        await settle()
        assert work.calls == ["a"]
        work.gates["a"].set()
        await settle()
        assert work.calls == ["a", "a"]


async def test_workers_bound_what_runs_at_once(clock: Any) -> None:
    """With two workers, two of five blocked keys run; the others follow."""
    work = Work()
    gate = asyncio.Event()
    work.gates = dict.fromkeys("abcde", gate)
    async with running(work, workers=2, clock=clock) as queue:
        for key in "abcde":
            queue.add(key)
        await settle()
        assert (queue.active, len(queue)) == (2, 3)
        gate.set()
        await settle()
    assert work.most == 2
    assert sorted(work.calls) == list("abcde")


async def test_errors_are_retried_later_and_later_and_success_forgets(clock: Any, caplog: Any) -> None:
    """Delays double with jitter up to the maximum, per key; after a success they start again."""
    work = Work()
    work.outcomes = [RuntimeError("boom")] * 4 + [None, RuntimeError("again")]
    async with running(work, clock=clock, backoff_initial=1.0, backoff_max=4.0) as queue:
        queue.add("a")
        delays = []
        for _ in range(4):
            await settle()
            (delay,) = clock.pending
            delays.append(delay)
            await clock.advance(delay + 0.001)
        assert all(
            low <= delay <= high for delay, (low, high) in zip(delays, [(0.5, 1), (1, 2), (2, 4), (2, 4)], strict=True)
        )
        assert (len(work.calls), clock.pending) == (5, [])
        queue.add("a")
        await settle()
        assert clock.pending[0] <= 1
    assert "boom" in caplog.text
    assert (queue.metrics.failed, queue.metrics.done) == (5, 1)


async def test_a_server_that_names_a_delay_is_obeyed(clock: Any) -> None:
    """Retry-After of a 429 is the least delay."""
    work = Work()
    work.outcomes = [errors.TooManyRequests(429, retry_after=30.0)]
    async with running(work, clock=clock) as queue:
        queue.add("a")
        await settle()
        assert clock.pending == [30.0]


async def test_requeue_and_the_earlier_of_two_delays(clock: Any) -> None:
    """A wish for another look is honoured; an earlier one replaces a later one, not the reverse; add beats both."""
    work = Work()
    work.outcomes = [Requeue(10)]
    async with running(work, clock=clock) as queue:
        queue.add("a")
        await settle()
        assert clock.pending == [10]
        queue.add_after("a", 20)
        assert clock.pending == [10]
        queue.add_after("a", 5)
        assert clock.pending == [5]
        await clock.advance(5)
        assert work.calls == ["a", "a"]
        queue.add_after("a", 5)
        queue.add("a")
        await settle()
        assert (clock.pending, len(work.calls)) == ([], 3)
        queue.add_after("a", 0)
        await settle()
        assert len(work.calls) == 4


async def test_forgotten_keys_are_not_looked_at_again(clock: Any) -> None:
    """forget drops the schedule of an object that is gone."""
    work = Work()
    async with running(work, clock=clock) as queue:
        queue.add_after("a", 5)
        queue.forget("a")
        await clock.advance(10)
    assert work.calls == []


async def test_a_reconcile_that_hangs_is_cut_off(clock: Any) -> None:
    """The time-out cancels it and counts as a failure, so the key comes back."""
    work = Work()
    work.gates["a"] = asyncio.Event()
    async with running(work, clock=clock, timeout=0.01) as queue:
        queue.add("a")
        while not queue.metrics.failed:
            await asyncio.sleep(0.001)
        assert work.running == []
        assert len(clock.pending) == 1


async def test_shutdown_cancels_and_waits(clock: Any) -> None:
    """After run is cancelled nothing runs, nothing is scheduled, and late additions start nothing."""
    work = Work()
    work.gates["a"] = asyncio.Event()
    queue: WorkQueue[str] = WorkQueue(work, clock=clock)
    task = asyncio.create_task(queue.run())
    queue.add("a")
    queue.add_after("b", 5)
    await settle()
    assert work.running == ["a"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (work.running, queue.active, clock.pending) == ([], 0, [])
    queue.add("c")
    await settle()
    assert work.calls == ["a"]


async def test_nonsense_settings_are_refused() -> None:
    """A queue without workers would never work, and one queue runs once."""
    with pytest.raises(ValueError, match="workers"):
        WorkQueue(Work(), workers=0)
    queue: WorkQueue[str] = WorkQueue(Work())
    task = asyncio.create_task(queue.run())
    await settle()
    with pytest.raises(RuntimeError, match="running"):
        await queue.run()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
