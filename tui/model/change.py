"""What the model is fed: one object of one kind appeared, changed or went, at an instant somebody else measured.

The instant belongs to the change, so that a recording reduces to exactly the state the live screen had.
"""

from __future__ import annotations

from typing import Final

import msgspec

from appliance.api import kinds
from appliance.api.kinds import Kind
from appliance.api.structs import Object

Key = tuple[str, str]
"""``(namespace, name)``."""

WATCHED: Final[tuple[Kind[Object], ...]] = (
    kinds.SANDBOX,
    kinds.SANDBOXSET,
    kinds.SANDBOXCLAIM,
    kinds.POD,
    kinds.NODE,
    kinds.EVENT,
    kinds.CONFIGMAP,
)  # type: ignore[assignment]
"""The kinds the flight deck follows; the first three are its subject, the others only explain them. Of ConfigMaps only
the claim reports."""
OPTIONAL: Final = frozenset({"configmaps"})
"""What many may not see and nothing depends on: no reason for an alert."""
BY_PLURAL: Final = {kind.plural: kind for kind in WATCHED}


class Change(msgspec.Struct, frozen=True, gc=False):
    """``new`` None: the object was deleted. ``at``: seconds since the epoch when it became known here."""

    at: float
    plural: str
    key: Key
    new: Object | None
