"""Create-time options that outlive a pause: the JSON in the annotation ``E2B_LIFECYCLE``.

Everything that a later request must know about how a sandbox was made, and that no Kubernetes field holds, is here,
so that any replica can answer and a pause forgets nothing. Written in the claim's one patch, and again by a resume
(which starts a new run). A sandbox without the annotation was claimed by a SandboxClaim: it has the defaults.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from appliance.api.labels import E2B_LIFECYCLE
from appliance.api.structs import Sandbox


class Options(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the client asked for at creation, and when the present run began."""

    timeout: int = 300
    """Seconds; auto-resume uses it again."""
    auto_pause: bool = False
    """On time-out pause instead of kill."""
    auto_pause_memory: bool = True
    """False: the pause on time-out keeps files only."""
    auto_resume: bool = False
    """Traffic wakes the paused sandbox."""
    secure: bool = True
    """envd demands an access token."""
    internet: bool | None = None
    """``allow_internet_access`` as given; None: not given."""
    network: dict[str, Any] | None = None
    """The ``network`` object as given, echoed by GET."""
    public: bool = True
    """False: user ports demand the traffic token."""
    mask_host: str | None = None
    """``Host`` that user ports see; ``${PORT}`` stands for the port."""
    https_ports: tuple[int, ...] = ()
    """User ports that the gateway dials with TLS."""
    alias: str | None = None
    """Name that the client used for the template; None: the template's own."""
    started_at: str | None = None
    """RFC 3339 instant of the last resume; None: never resumed, the claim's timestamp counts."""
    return_ip: bool = False
    """Extension ``return-sandbox-ip``: add ``sandbox-ip`` to the returned metadata."""
    request: str | None = None
    """SHA-256 of API key id and Idempotency-Key."""
    request_body: str | None = None
    """SHA-256 of the body that came with it."""
    present: bool = True
    """False when the sandbox has no such annotation; never written."""


ABSENT = Options(present=False)


def options_of(sandbox: Sandbox) -> Options:
    """The sandbox's options; ``ABSENT`` when there are none, or somebody broke them."""
    text = sandbox.meta.annotations.get(E2B_LIFECYCLE)
    return _decode(text) if text else ABSENT


def encode(options: Options) -> str:
    """The annotation's value."""
    return msgspec.json.encode(options).decode()


@lru_cache(maxsize=4096)
def _decode(text: str) -> Options:
    try:
        return msgspec.json.decode(text, type=Options)
    except msgspec.DecodeError:
        return ABSENT
