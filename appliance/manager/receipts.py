"""Whether the answer to a create was delivered; a sandbox that nobody was told of is killed at once.

A claim that is cancelled cleans up after itself (``claims/engine.py``), and a client that leaves cancels its request.
What remains is the moment between the end of the claim and the last look at the client's connection. For that the
gateway numbers requests and says, once for each number, whether the client was still there when the last of the answer
was written; the create says, before it answers, which sandbox the number stands for. Either may come first.

The same moment closes the create's pledge (``claims/pledges.py``): right before the answer is whole, so that a manager
that is killed while an answer is on its way to the gateway leaves nothing that nobody was told of.

A create that is marked by an ``Idempotency-Key`` takes no part: its client comes back and asks for the same sandbox.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from appliance.manager.roster import Entry

HEADER: Final = "X-Appliance-Receipt"
"""Set by the gateway only; a client's own is dropped there."""
REMEMBERED: Final = 4096
"""Numbers of lost answers kept for creates that have not finished yet; far more than there are requests in flight."""


class Receipts:
    """In memory: number, sandbox and outcome meet within one process, and within a moment."""

    def __init__(self, discard: Callable[[Entry], None], answered: Callable[[str], None]) -> None:
        """``discard`` starts the end of a sandbox and returns at once; ``answered`` closes the pledge of an id."""
        self._discard = discard
        self._answered = answered
        self._offered: dict[str, Entry] = {}
        self._lost: OrderedDict[str, None] = OrderedDict()
        self.discarded = 0
        """Sandboxes ended because their client had left."""

    def offer(self, number: str | None, entry: Entry) -> None:
        """The answer to this request names this sandbox. None: the request did not come through the gateway."""
        if number is None:
            self._answered(entry.sandbox_id)
        elif number in self._lost:
            del self._lost[number]
            self._end(entry)
        else:
            self._offered[number] = entry

    def settle(self, number: str, delivered: bool) -> None:
        """What became of the answer."""
        entry = self._offered.pop(number, None)
        if entry is not None:
            if delivered:
                self._answered(entry.sandbox_id)
            else:
                self._end(entry)
        if delivered or entry is not None:
            return
        self._lost[number] = None
        if len(self._lost) > REMEMBERED:
            self._lost.popitem(last=False)

    def _end(self, entry: Entry) -> None:
        self.discarded += 1
        self._answered(entry.sandbox_id)
        self._discard(entry)
