"""Which candidate to try next, and which ones this process is already trying.

Two claims of one process must not race for the same object: the loser would pay a round trip. A reservation is a
name in a set, taken and given back in the event loop without any await in between, so it needs no lock. Claims of
other processes are met by starting at a random place, and settled by the guarded write.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from appliance.api import labels
from appliance.api.structs import Sandbox
from appliance.claims.indexes import deliverable


class Reservations:
    """The sandboxes that claims of this process are trying to take, and a signal when one is given back."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._waiters: set[asyncio.Future[None]] = set()

    def __contains__(self, sandbox: Sandbox) -> bool:
        return sandbox.uid in self._taken

    @contextmanager
    def hold(self, sandbox: Sandbox) -> Iterator[None]:
        """Reserve for the length of the block. The sandbox must not be reserved."""
        self._taken.add(sandbox.uid)
        try:
            yield
        finally:
            self._taken.discard(sandbox.uid)
            self.wake()

    def wake(self) -> None:
        """Something changed that a waiting claim may want to look at."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def changed(self) -> None:
        """Wait until a reservation is given back (or ``wake`` is called)."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)


def choose(
    pool: Sequence[Sandbox],
    revisions: frozenset[str],
    *,
    free: Callable[[Sandbox], bool],
    now: datetime,
    limit: int,
    rand: Callable[[int], int] = random.randrange,
) -> Sandbox | None:
    """A deliverable sandbox that is free: of a current revision if one is among the ``limit`` looked at, else any.

    The search starts at a random place and goes once around; reserved ones do not count towards ``limit``, so that
    a crowd of claims never mistakes a busy pool for an empty one.
    """
    if not pool:
        return None
    start, fallback, looked = rand(len(pool)), None, 0
    for step in range(len(pool)):
        candidate = pool[(start + step) % len(pool)]
        if not free(candidate) or not deliverable(candidate, now):
            continue
        if candidate.meta.labels.get(labels.TEMPLATE_HASH) in revisions:
            return candidate
        fallback = fallback or candidate
        looked += 1
        if looked >= limit:
            break
    return fallback
