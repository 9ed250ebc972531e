"""What a claim asks for and what it gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from appliance.api.header_rules import HeaderRules
from appliance.api.structs import Sandbox
from appliance.claims.updating import Update


@dataclass(frozen=True, kw_only=True)
class ClaimRequest:
    """One sandbox of a template, for one owner."""

    namespace: str | None
    """None: any namespace that has the template."""
    template: str
    """Name of the SandboxSet."""
    owner: str
    """API key id or claim UID; becomes the annotation ``OWNER``."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Merged on the Sandbox and, outside our own prefix, on its pod."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    """Handed to the runtime's /init and kept in a Secret, never in an annotation."""
    rules: HeaderRules | None = None
    """Of the revision that the annotations' policy names; kept in a Secret of its own."""
    shutdown_at: datetime | None = None
    pause_at: datetime | None = None
    life_from_delivery: bool = False
    """The times were counted from the request; a sandbox that had to be made first gets them from its delivery."""
    create_on_no_stock: bool = True
    skip_init: bool = False
    timeout: float = 60.0
    """Seconds for the whole claim."""
    secure: bool = True
    """Whether the runtime demands the access token."""
    ready_timeout: float | None = None
    """Seconds a sandbox made or updated for this claim gets to become ready; None: ``ClaimSettings.ready_timeout``."""
    noted: bool = True
    """Whether the engine's pledges remember this delivery until it is answered."""
    reserve_failed: bool = False
    """Keep a sandbox whose delivery failed, labelled ``RESERVED_FAILED``, instead of deleting it."""
    update: Update | None = None
    """Image and resources that differ from the template's."""

    def later(self, seconds: float) -> ClaimRequest:
        """The same with both times moved."""
        by = timedelta(seconds=seconds)
        return replace(
            self,
            shutdown_at=self.shutdown_at and self.shutdown_at + by,
            pause_at=self.pause_at and self.pause_at + by,
        )


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds spent in each stage; 0.0 for a stage that did not happen."""

    queue: float = 0.0
    """Waiting for a slot, and in the line of those who create."""
    pick: float = 0.0
    """Choosing, with candidates that were lost to somebody faster."""
    write: float = 0.0
    """The guarded write (or the creation)."""
    ready: float = 0.0
    """A created sandbox becoming ready."""
    personalise: float = 0.0
    """/init, Secret, pod labels and network, in parallel."""
    total: float = 0.0
    conflicts: int = 0
    """Candidates lost to somebody else before one was won."""


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A delivered sandbox."""

    sandbox: Sandbox
    """As the API server answered the write (or, for a created one, when it became ready)."""
    sandbox_id: str
    access_token: str | None
    """None when the claim was not ``secure`` or skipped /init."""
    how: Literal["pool", "created"]
    timings: Timings
