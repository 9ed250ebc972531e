"""The sandbox that a claim has taken: passed between the parts of the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from appliance.api.structs import Sandbox
from appliance.claims.delivery import Attempt
from appliance.claims.runtime_client import Line


@dataclass(frozen=True)
class Taken:
    """A sandbox that is the claim's, not yet personalised."""

    sandbox: Sandbox
    attempt: Attempt
    how: Literal["pool", "created"]
    line: Line | None = None
    """The connection over which its runtime can be initialised, if one was begun."""
