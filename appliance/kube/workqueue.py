"""Keys to be reconciled: each at most once in the queue, each by at most one task at a time.

A key that is added while its task runs is run again afterwards, so no change is missed and none is worked on twice at
once. Errors retry the key alone, later and later; ``Requeue`` asks for another look after a while. A key waiting for a
later moment is pulled forward by ``add``. The queue is bounded by the number of keys, and tasks exist only while they
work.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from appliance.kube import errors
from appliance.kube.backoff import Backoff
from appliance.kube.clock import Clock, LoopClock, Timer

K = TypeVar("K", bound=Hashable)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Requeue:
    """A reconcile's wish to be called again after so many seconds."""

    after: float


@dataclass
class QueueMetrics:
    """Counters of one queue."""

    added: int = 0
    done: int = 0
    failed: int = 0
    busy_seconds: float = 0.0
    """Sum of the durations of all reconciles."""


@dataclass
class _Scheduled:
    due: float
    timer: Timer = field(repr=False)


class WorkQueue(Generic[K]):
    """Runs ``reconcile(key)`` for every added key, ``workers`` at once.

    ``timeout`` (seconds) bounds one reconcile; None leaves that to the callback. Keys may be added before ``run``.
    """

    def __init__(
        self,
        reconcile: Callable[[K], Awaitable[Requeue | None]],
        *,
        workers: int = 64,
        name: str = "queue",
        backoff_initial: float = 0.05,
        backoff_max: float = 60.0,
        timeout: float | None = 300.0,
        clock: Clock | None = None,
    ) -> None:
        if workers < 1:
            raise ValueError(f"workers: expected at least 1, got {workers}")
        self.metrics = QueueMetrics()
        self._reconcile = reconcile
        self._workers = workers
        self._name = name
        self._backoff = (backoff_initial, backoff_max)
        self._timeout = timeout
        self._clock = clock or LoopClock()
        self._ready: dict[K, None] = {}
        """Keys to run, in order; a dict is an ordered set."""
        self._active: dict[K, asyncio.Task[None]] = {}
        self._dirty: set[K] = set()
        """Running keys that were added meanwhile."""
        self._scheduled: dict[K, _Scheduled] = {}
        self._failures: dict[K, Backoff] = {}
        self._running = False

    def __len__(self) -> int:
        """Keys waiting to run now; those running or scheduled for later are not counted."""
        return len(self._ready)

    @property
    def active(self) -> int:
        """Reconciles in progress."""
        return len(self._active)

    def add(self, key: K) -> None:
        """Run the key as soon as a worker is free (again, if it is running)."""
        self.metrics.added += 1
        scheduled = self._scheduled.pop(key, None)
        if scheduled is not None:
            scheduled.timer.cancel()
        if key in self._active:
            self._dirty.add(key)
            return
        self._ready[key] = None
        self._pump()

    def add_after(self, key: K, delay: float) -> None:
        """Run the key in ``delay`` seconds, unless it runs or is due earlier anyway. Call it inside the loop."""
        if delay <= 0:
            self.add(key)
            return
        if key in self._ready or key in self._dirty:
            return
        due = self._clock.now() + delay
        scheduled = self._scheduled.get(key)
        if scheduled is not None:
            if scheduled.due <= due:
                return
            scheduled.timer.cancel()
        self._scheduled[key] = _Scheduled(due, self._clock.call_later(delay, lambda: self.add(key)))

    def forget(self, key: K) -> None:
        """The object is gone: drop its schedule and its count of failures."""
        scheduled = self._scheduled.pop(key, None)
        if scheduled is not None:
            scheduled.timer.cancel()
        self._failures.pop(key, None)

    async def run(self) -> None:
        """Work until cancelled; then cancel the reconciles in progress and wait for them to end."""
        if self._running:
            raise RuntimeError(f"{self._name}: already running")
        self._running = True
        self._pump()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._running = False
            for scheduled in self._scheduled.values():
                scheduled.timer.cancel()
            self._scheduled.clear()
            self._dirty.clear()
            tasks = list(self._active.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _pump(self) -> None:
        """Start tasks while there are keys and free workers."""
        while self._running and self._ready and len(self._active) < self._workers:
            key = next(iter(self._ready))
            del self._ready[key]
            self._active[key] = asyncio.get_running_loop().create_task(self._work(key), name=f"{self._name} {key}")

    async def _work(self, key: K) -> None:
        started = time.monotonic()
        wish: Requeue | None = None
        retry: float | None = None
        try:
            async with asyncio.timeout(self._timeout):
                wish = await self._reconcile(key)
            self._failures.pop(key, None)
            self.metrics.done += 1
        except Exception as error:
            retry = self._on_failure(key, error)
        finally:
            self.metrics.busy_seconds += time.monotonic() - started
            self._active.pop(key, None)
            self._after(key, retry if retry is not None else wish.after if wish else None)

    def _on_failure(self, key: K, error: Exception) -> float:
        """Log and return the delay. Lost races are everyday; anything unforeseen deserves its traceback."""
        self.metrics.failed += 1
        backoff = self._failures.setdefault(key, Backoff(*self._backoff))
        delay = backoff.next(getattr(error, "retry_after", None) or 0.0)
        if isinstance(error, errors.Conflict):
            log.debug("%s %s: conflict, again in %.2f s: %s", self._name, key, delay, error)
        elif isinstance(error, errors.KubeError | TimeoutError):
            log.warning("%s %s: again in %.2f s: %s", self._name, key, delay, str(error) or "timed out")
        else:
            log.exception("%s %s: again in %.2f s", self._name, key, delay)
        return delay

    def _after(self, key: K, delay: float | None) -> None:
        """Schedule what the reconcile wished, if the queue still runs, and give the worker to the next key."""
        if not self._running:
            return
        if key in self._dirty:
            self._dirty.discard(key)
            self._ready[key] = None
        elif delay is not None:
            self.add_after(key, delay)
        self._pump()
