"""What a SandboxSet's controller knows that the cache does not show yet. Lost at a restart without harm."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from appliance.api import times
from appliance.api.structs import Sandbox

_YOUNG = timedelta(seconds=60)
"""A member that dies younger than this says something about its template."""
_DELAY_MAX = 60.0
_SLOW_BATCH = 3.0
"""Seconds of a batch after which the API server is taken to be overloaded: claims come first."""


CLAIMS_WINDOW = 0.5
"""Seconds over which claims are counted."""
BUSY_CLAIMS = 8
"""Claims within the window from which on they come first: a new member costs the API server three times a claim."""


class PoolMemory:
    """Creations and deletions in flight, the size of the next batch, and how often new members die at once."""

    def __init__(self, batch_initial: int, batch_max: int) -> None:
        self.unseen: set[str] = set()
        """Names of members whose creation has no known outcome."""
        self.leaving: set[str] = set()
        """Uids of members whose deletion was accepted."""
        self.batch = batch_initial
        self._limits = (batch_initial, batch_max)
        self._deaths = 0
        self._held = 0
        self._held_until = 0.0
        self._claims: deque[float] = deque(maxlen=BUSY_CLAIMS)

    def settle(self, members: Collection[Sandbox]) -> None:
        """The cache shows these members now: forget what it confirms."""
        if self.unseen:
            self.unseen.difference_update(member.name for member in members)
        if self.leaving:
            self.leaving.intersection_update({member.uid for member in members})

    def adapt(self, seconds: float, *, failed: bool) -> None:
        """Size the next batch by how this one went."""
        initial, maximum = self._limits
        if failed or seconds > _SLOW_BATCH:
            self.batch = initial
        else:
            self.batch = min(self.batch * 2, maximum)

    def note_claim(self, now: float) -> None:
        """A member was claimed at ``now`` (monotonic seconds)."""
        self._claims.append(now)

    def claims_first(self, available: int, replicas: int, now: float) -> float | None:
        """Seconds that the refill should wait for a burst of claims to pass, None when it should not.

        Only while at least half of the pool is left: below that the refill is what the claims need.
        """
        if len(self._claims) < BUSY_CLAIMS or 2 * available < replicas:
            return None
        left = self._claims[0] + CLAIMS_WINDOW - now
        return left if left > 0 else None

    def note_deaths(self, dead: Sequence[Sandbox], now: datetime) -> None:
        """Hold back replacements of members that died young: longer each time, so a broken template does not spin."""
        young = sum(
            1 for sandbox in dead if now - (times.parse_or_none(sandbox.meta.creation_timestamp) or now) < _YOUNG
        )
        if young:
            self._deaths += 1
            self._held = young
            self._held_until = time.monotonic() + min(_DELAY_MAX, 2.0 ** (self._deaths - 1))

    def full(self) -> None:
        """The pool is complete: the template works, and the next refill starts small again."""
        self._deaths = 0
        self._held_until = 0.0
        self.batch = self._limits[0]

    def allow(self, wanted: int) -> int:
        """How many of ``wanted`` creations may happen now."""
        return wanted if self.wait() is None else max(0, wanted - self._held)

    def wait(self) -> float | None:
        """Seconds until replacements are no longer held back; None when they are not."""
        left = self._held_until - time.monotonic()
        return left if left > 0 else None
