"""What a process that delivers sandboxes tells about its claims, and how it travels: one ConfigMap a process.

Stages are known exactly only inside that process, and only after its one write; a second write for each claim would
cost more than it tells. So the last ones are published together (``claims/ledger.py``), and whoever looks (the flight
deck) joins them to sandboxes by the delivery's lock, which is on the sandbox and is no secret.
"""

from __future__ import annotations

from typing import Final

import msgspec

from appliance.api.structs import Object

KEY: Final = "report"


class Delivery(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One delivered sandbox. Durations in seconds."""

    lock: str
    """Annotation LOCK of the sandbox: one delivery, never reused."""
    at: float
    """When it was handed over, seconds since the epoch."""
    queue: float
    """Waiting for a free slot, or in the line of those who create."""
    pick: float
    write: float
    ready: float
    init: float
    how: str
    """``pool`` or ``created``."""
    conflicts: int = 0
    """Candidates lost to somebody faster."""

    @property
    def total(self) -> float:
        """Seconds from the request to the answer."""
        return self.queue + self.pick + self.write + self.ready + self.init


class Waiting(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One claim that has been on its way for a while."""

    namespace: str
    template: str
    since: float
    stage: str
    """In words: ``waiting in line to create a sandbox``."""
    lock: str = ""
    """Of the sandbox that is being prepared for it; empty when it has none yet."""


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One claim that got nothing."""

    namespace: str
    template: str
    at: float
    took: float
    error: str
    """Name of the error: ``NoStock``, ``ClaimTimeout``, …"""
    message: str


class Report(msgspec.Struct, frozen=True):
    """Everything one process tells, oldest first."""

    at: float = 0.0
    deliveries: list[Delivery] = []
    waiting: list[Waiting] = []
    failures: list[Failure] = []


_encoder, _decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Report)


def encode(report: Report) -> dict[str, str]:
    """The data of its ConfigMap."""
    return {KEY: _encoder.encode(report).decode()}


def decode(item: Object | None) -> Report:
    """The report in a ConfigMap; an empty one when there is none that can be read."""
    try:
        return _decoder.decode(getattr(item, "data", {}).get(KEY, "{}"))
    except msgspec.DecodeError:
        return Report()
