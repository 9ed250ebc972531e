"""Whether a team may use the API: open, blocked with a reason, or banned (contract §1.2).

A blocked team keeps what it has and may look at it and take it down, but starts and changes nothing; a banned one may
do nothing. Sandboxes that run go on to their end. Kept beside the keys in the Secret ``e2b-key-store``, one entry per
team that is not open, so every replica knows within a watch event. An admin key is never held up by its own team's
standing: somebody has to be able to lift it.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from appliance.manager.errors import Fault

PREFIX = "team."
"""Of the entries' names; keys' entries are UUIDs, which have no dot."""
HARMLESS = frozenset({"GET", "HEAD", "DELETE"})
"""What a blocked team may still do: list, read, delete."""


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """One team's."""

    blocked: str | None = None
    """The reason, told to the team; None: not blocked."""
    banned: bool = False


OPEN = Standing()


def entry_name(team: str) -> str:
    """Name of a team's entry in the Secret."""
    return PREFIX + team


def encode(standing: Standing) -> str | None:
    """The entry's value; None, which removes it, for an open team."""
    return None if standing == OPEN else base64.b64encode(msgspec.json.encode(standing)).decode()


def decode(value: str) -> Standing | None:
    """What an entry says; None when it is none."""
    try:
        return msgspec.json.decode(base64.b64decode(value, validate=True), type=Standing)
    except (msgspec.DecodeError, binascii.Error):
        return None


def check(standing: Standing, method: str) -> None:
    """Raise Fault 403 unless a team of this standing may send such a request."""
    if standing.banned:
        raise Fault(403, "team is banned")
    if standing.blocked is not None and method not in HARMLESS:
        raise Fault(403, f"team is blocked: {standing.blocked}")
