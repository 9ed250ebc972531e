"""The parts every verb needs, in one frozen bundle, and one parsed API request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import web

from appliance.config import ApiServerSettings
from appliance.embedded.apiserver.auth import Identity
from appliance.embedded.apiserver.relay import NodeRelay
from appliance.embedded.apiserver.resources import Registry, Resource
from appliance.embedded.apiserver.snapshots import Snapshots
from appliance.embedded.apiserver.store.store import Store


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything behind the HTTP surface. ``stopping`` is set when the server begins to shut down."""

    settings: ApiServerSettings
    store: Store
    registry: Registry
    relay: NodeRelay
    snapshots: Snapshots = field(default_factory=Snapshots)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Call:
    """One request for a resource. ``namespace`` is None for cluster scope and for "all namespaces"."""

    http: web.BaseRequest
    user: Identity
    resource: Resource
    namespace: str | None
    name: str | None
    subresource: str | None
    query: Mapping[str, str]
    warnings: list[str] = field(default_factory=list)
    """Texts for ``Warning`` response headers."""

    def flag(self, name: str) -> bool:
        """A boolean query parameter as Kubernetes reads it: present and not ``false``/``0``."""
        value = self.query.get(name)
        return value is not None and value.lower() not in ("false", "0")
