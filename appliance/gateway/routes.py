"""What the gateway asks of whoever knows the sandboxes.

``Routes`` is the only door between the data plane and the cluster: two methods, no Kubernetes types. ``resolve`` is on
the path of every request, so it answers from a cache, synchronously; only waking a paused sandbox may take time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Route:
    """Where one port of one sandbox is served."""

    sandbox_id: str
    host: str
    """IP address (v4 or v6) of the sandbox, as the gateway dials it."""
    port: int
    """Port to dial there; the one the client asked for."""
    token: str | None
    """The runtime's access token: opens the tunnel, is never sent to a client or to user ports."""
    traffic_token: str | None
    """Token demanded of clients in ``e2b-traffic-access-token`` (every port but envd's); None: public."""
    mask_host: str | None
    """``Host`` sent to user ports instead of the client's; ``${PORT}`` stands for the port. None: the client's."""
    tunnel_port: int
    """Port of the runtime's forwarder, used when the direct dial is refused."""
    tls: bool = False
    """The service speaks TLS (``httpsPorts``); its certificate is not verified."""


class Refusal(Enum):
    """Why there is no route; each has its status and body in ``errors.py``."""

    NOT_FOUND = auto()
    """Unknown or dead: 502 "The sandbox was not found"."""
    PAUSED = auto()
    """Paused and not to be woken by traffic: the same answer as NOT_FOUND."""
    PAUSED_RESUMABLE = auto()
    """Paused; traffic may wake it: the gateway awaits ``Routes.wake`` and resolves again."""
    TRANSITIONING = auto()
    """Between two states: 409."""
    RESUME_DENIED = auto()
    """Paused; this caller may not wake it: 403."""
    TOO_MANY = auto()
    """A limit of the team or the sandbox is reached: 429."""


class Credentials(NamedTuple):
    """What a caller shows who would wake a paused sandbox."""

    method: bytes
    url: bytes
    """Path and query as the service would see them; a signed URL carries its proof there."""
    access_token: bytes | None
    """``X-Access-Token``."""
    traffic_token: bytes | None
    """``e2b-traffic-access-token``."""


class Routes(Protocol):
    """Implemented by the manager over its informer cache; by a dictionary in tests."""

    def resolve(self, sandbox_id: str, port: int) -> Route | Refusal:
        """Answer at once, from memory; never raises."""
        ...

    def admits(self, sandbox_id: str, port: int, credentials: Credentials) -> bool:
        """Whether this caller may wake the sandbox; from memory, never raises. False is answered 403."""
        ...

    async def refresh(self, sandbox_id: str) -> None:
        """Learn from the cluster what is true of one sandbox now; ``resolve`` answers by it afterwards. Never raises.

        With several gateways, each one's memory is a moment behind the others' writes. The gateway asks where that
        moment matters: before it refuses a request, since the sandbox may just have been made or resumed elsewhere, and
        for ``GET /health``, by which clients tell who is alive.
        """
        ...

    async def wake(self, sandbox_id: str) -> bool:
        """Resume a paused sandbox; True once it is routable, False when traffic may not wake it.

        The gateway shares one call among all requests that wait for the same sandbox, and bounds it in time.
        """
        ...
