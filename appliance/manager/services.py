"""What the blueprints work with: one object, made by ``main.py`` or by a test, found by ``services()``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, cast

from quart import current_app, g

from appliance.config import ManagerSettings
from appliance.gateway.stats import Stats
from appliance.kube.cluster import Cluster
from appliance.manager.abilities import Abilities
from appliance.manager.create import Creator
from appliance.manager.guest import Guests
from appliance.manager.idempotency import Replays
from appliance.manager.journal import Journal, Record
from appliance.manager.keys.model import ApiKey
from appliance.manager.keys.store import KeyStore
from appliance.manager.lifecycle import Lifecycle
from appliance.manager.lookup import Finder
from appliance.manager.observed import Observed
from appliance.manager.receipts import Receipts
from appliance.manager.roster import Entry, Roster
from appliance.manager.runstate import Run
from appliance.manager.sandbox_logs import SandboxLogs
from appliance.manager.shelf import Shelf
from appliance.manager.sizes import Sizer
from appliance.manager.tags import Tags
from appliance.manager.team_metrics import TeamMetrics
from appliance.manager.templates import Templates

EXTENSION = "appliance"


class DataPlane(Protocol):
    """What the API needs of the gateway."""

    stats: Stats

    def reset(self, sandbox_id: str) -> int:
        """Abort the sandbox's connections."""
        ...


@dataclass(frozen=True, kw_only=True)
class Services:
    """Everything a request may need."""

    settings: ManagerSettings
    cluster: Cluster
    keys: KeyStore
    roster: Roster
    finder: Finder
    lifecycle: Lifecycle
    abilities: Abilities
    creator: Creator
    replays: Replays
    templates: Templates
    shelf: Shelf
    tags: Tags
    sizer: Sizer
    guests: Guests
    journal: Journal
    logs: SandboxLogs
    teams: TeamMetrics
    observed: Observed
    gateway: DataPlane
    receipts: Receipts
    outcomes: Mapping[str, int]
    """Claims by outcome, counted by the engine."""
    now: Callable[[], datetime]
    ready: Callable[[], bool] = lambda: True
    """False until every cache is filled."""

    async def entry(self, sandbox_id: str) -> tuple[Entry, Run]:
        """The caller's sandbox, running or paused. Raises Fault 404 for anything else."""
        return await self.finder.find(caller(), sandbox_id)

    def remembered(self, sandbox_id: str) -> Record | None:
        """The journal of a sandbox of the caller's, living or lately ended."""
        record = self.journal.find(sandbox_id)
        return record if record is not None and caller().may_see(record.namespace) else None


def services() -> Services:
    """The present application's services."""
    return cast(Services, current_app.extensions[EXTENSION])


def caller() -> ApiKey:
    """The key that the present request was made with."""
    return cast(ApiKey, g.key)
