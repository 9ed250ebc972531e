"""Pages of a list come from one consistent snapshot, kept for a while between the requests.

Records are immutable, so a snapshot is a list of references. Few are kept; an old one answers 410, as etcd does after
compaction.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections import OrderedDict

from appliance.embedded.apiserver.status import bad_request, gone
from appliance.embedded.apiserver.store.record import Record

MAX_SNAPSHOTS = 64
NAME_BYTES = 8
LIFETIME = 300.0
"""Seconds a snapshot is kept."""
EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You must start a new list without the continue parameter."
)


class Snapshots:
    """Continue tokens and what they continue."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, int, str, list[Record]]] = OrderedDict()

    def keep(self, resource: str, version: int, records: list[Record], offset: int) -> str:
        """Remembers ``records`` and returns the token for the page from ``offset``."""
        self._sweep()
        name = secrets.token_hex(NAME_BYTES)
        self._kept[name] = (time.monotonic() + LIFETIME, version, resource, records)
        while len(self._kept) > MAX_SNAPSHOTS:
            self._kept.popitem(last=False)
        return token(name, offset)

    def resume(self, resource: str, text: str) -> tuple[str, int, int, list[Record]]:
        """``(name, offset, version, records)`` of a token; ApiStatus 400 when malformed, 410 when too old."""
        self._sweep()
        try:
            name, offset = base64.urlsafe_b64decode(text.encode()).decode().split(":")
            position = int(offset)
            if len(name) != 2 * NAME_BYTES:
                raise ValueError("not a name of ours")
        except ValueError:
            text = "invalid continue token: continue key is not valid: it must be a token from an earlier list"
            raise bad_request(text) from None
        entry = self._kept.get(name)
        if entry is None or entry[2] != resource:
            raise gone(EXPIRED)
        return name, position, entry[1], entry[3]

    def _sweep(self) -> None:
        now = time.monotonic()
        for name in [name for name, entry in self._kept.items() if entry[0] < now]:
            del self._kept[name]


def token(name: str, offset: int) -> str:
    """The continue token of a kept snapshot at ``offset``."""
    return base64.urlsafe_b64encode(f"{name}:{offset}".encode()).decode()
