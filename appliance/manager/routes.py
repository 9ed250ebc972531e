"""The gateway's view of the roster: sandbox id and port → address, or why not, and who may wake a paused one.

Traffic wakes a sandbox only for a caller who could talk to it afterwards: envd of a secured sandbox wants its access
token or a signed URL, user ports of a private one the traffic token (contract §1.10). What lost its memory in the
pause is never woken by traffic; an explicit connect boots it. Nor is anything of a team that is blocked or banned.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from datetime import datetime

from appliance.api import labels
from appliance.gateway.routes import Credentials, Refusal, Route
from appliance.kube.errors import KubeError
from appliance.manager.errors import Fault
from appliance.manager.lifecycle import Lifecycle
from appliance.manager.lookup import Finder
from appliance.manager.roster import Entry, Roster
from appliance.manager.runstate import Run, memory_lost
from appliance.manager.signing import signed

logger = logging.getLogger(__name__)


class RosterRoutes:
    """``gateway.Routes`` over the roster; ``resolve`` is on the path of every proxied request."""

    def __init__(
        self,
        roster: Roster,
        lifecycle: Lifecycle,
        finder: Finder,
        *,
        min_resume_timeout: int,
        now: Callable[[], datetime],
        may_start: Callable[[str], bool] = lambda _team: True,
    ) -> None:
        self._now = now
        self._may_start = may_start
        self._finder = finder
        self._roster = roster
        self._lifecycle = lifecycle
        self._min_resume_timeout = min_resume_timeout

    def resolve(self, sandbox_id: str, port: int) -> Route | Refusal:
        """Where that port is served, from memory."""
        entry = self._roster.get(sandbox_id)
        if entry is None:
            return Refusal.NOT_FOUND
        run = self._roster.run_of(entry)
        if run is Run.RUNNING:
            return _route(entry, port) if entry.address else Refusal.TRANSITIONING
        if run in (Run.GONE, Run.STARTING):
            return Refusal.NOT_FOUND
        if entry.options.auto_resume and not memory_lost(entry.sandbox):
            return Refusal.PAUSED_RESUMABLE
        return Refusal.PAUSED if run is Run.PAUSED else Refusal.TRANSITIONING

    def admits(self, sandbox_id: str, port: int, credentials: Credentials) -> bool:
        """Whether the caller shows what the port demands."""
        entry = self._roster.get(sandbox_id)
        if entry is None:
            return False
        if port != labels.PORT_ENVD:
            return entry.traffic_token is None or _same(credentials.traffic_token, entry.traffic_token)
        if entry.token is None or _same(credentials.access_token, entry.token):
            return True
        return credentials.access_token is None and signed(entry.token, credentials, self._now())

    async def refresh(self, sandbox_id: str) -> None:
        """Ask the cluster about one id; ``resolve`` then answers by what it said."""
        await self._finder.refresh(sandbox_id)

    async def wake(self, sandbox_id: str) -> bool:
        """Resume for traffic: the creation's time-out again, but not less than the configured minimum."""
        entry = self._roster.get(sandbox_id)
        if entry is None or not entry.options.auto_resume or memory_lost(entry.sandbox):
            return False
        if not self._may_start(entry.sandbox.namespace):
            return False
        try:
            await self._lifecycle.connect(entry, max(entry.options.timeout, self._min_resume_timeout))
        except (Fault, KubeError) as error:
            logger.warning("sandbox %s could not be woken by traffic: %s", sandbox_id, error)
            return False
        return True


def _same(given: bytes | None, token: str) -> bool:
    return given is not None and hmac.compare_digest(given, token.encode())


def _route(entry: Entry, port: int) -> Route:
    user_port = port != labels.PORT_ENVD
    return Route(
        sandbox_id=entry.sandbox_id,
        host=entry.address,
        port=port,
        token=entry.token,
        traffic_token=entry.traffic_token if user_port else None,
        mask_host=entry.options.mask_host if user_port else None,
        tunnel_port=labels.PORT_TUNNEL,
        tls=user_port and port in entry.options.https_ports,
    )
