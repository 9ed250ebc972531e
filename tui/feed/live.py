"""A live cluster: one informer a kind, every change through the reducer, and a probe that says how the watches are.

Informers survive whatever happens and say nothing about it; so a probe asks for one object of each kind in turn. It
learns what the watch cannot say (forbidden, no such resource, expired credentials, server away) and how long an
answer takes. It costs one small request every ``PROBE_PERIOD`` seconds, whatever the size of the cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from appliance.api import labels
from appliance.api.kinds import CONFIGMAP, POD, Kind
from appliance.api.structs import Object
from appliance.config import KubeSettings
from appliance.kube import credentials, errors
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer
from tui.model.alerts import WatchHealth
from tui.model.change import OPTIONAL, WATCHED, Change
from tui.model.world import World

PROBE_PERIOD = 1.0
"""Seconds between two probes; the kinds take turns."""
RETRY = 3.0
"""Seconds between two attempts to read unusable credentials."""
PRIMARY = 3
"""So many of WATCHED must be listed before emptiness means anything."""


SELECTORS = {
    POD.plural: f"{labels.CREATED_BY}={labels.CREATED_BY_SANDBOX}",
    CONFIGMAP.plural: labels.CLAIM_REPORT,
}


class LiveSource:
    """Feeds a World from a cluster; ``tap`` sees every change first (the recorder)."""

    def __init__(
        self,
        settings: KubeSettings,
        namespace: str | None = None,
        *,
        tap: Callable[[Change], None] | None = None,
        clock: Callable[[], float] = time.time,
        cluster: Cluster | None = None,
    ) -> None:
        self.world = World()
        self.cluster = cluster
        self.label = "connecting"
        self.now = clock
        self.settings = settings
        self._namespace = namespace
        self._tap = tap
        self._informers: dict[str, Informer[Any]] = {}
        self._health = {kind.plural: WatchHealth(kind.plural, "connecting", since=clock()) for kind in WATCHED}

    def health(self) -> list[WatchHealth]:
        """The last word of the probe about each kind."""
        return list(self._health.values())

    @property
    def ready(self) -> bool:
        """Whether our own kinds have been listed."""
        return len(self._informers) == len(WATCHED) and all(
            self._informers[kind.plural].is_synced for kind in WATCHED[:PRIMARY]
        )

    async def run(self) -> None:
        """Connect, then watch and probe until cancelled."""
        self.cluster = cluster = self.cluster or await self._connect()
        try:
            async with asyncio.TaskGroup() as tasks:
                for kind in WATCHED:
                    tasks.create_task(self._informer(cluster, kind).run())
                tasks.create_task(self._probe(cluster))
        finally:
            await cluster.close()

    async def synced(self, timeout: float) -> None:
        """Wait for the first lists of our kinds, for ``--once``. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while len(self._informers) < len(WATCHED):
                await asyncio.sleep(0.01)
            for kind in WATCHED[:PRIMARY]:
                await self._informers[kind.plural].synced()

    async def probed(self, timeout: float) -> None:
        """Wait until the probe has asked for every kind once. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while any(one.state == "connecting" for one in self._health.values()):
                await asyncio.sleep(0.01)

    async def _connect(self) -> Cluster:
        while True:
            try:
                cluster = await Cluster.connect(self.settings)
                self.label = await _server(self.settings)
                return cluster
            except errors.ConfigError as error:
                for plural in self._health:
                    self._note(plural, "lost", str(error))
                await asyncio.sleep(RETRY)

    def _informer(self, cluster: Cluster, kind: Kind[Object]) -> Informer[Object]:
        selector = SELECTORS.get(kind.plural, "")
        informer = Informer(cluster, kind, namespace=self._place(kind), label_selector=selector)

        def heard(old: Object | None, new: Object | None) -> None:
            item = new or old
            assert item is not None
            self._feed(Change(self.now(), kind.plural, item.key, new))

        informer.subscribe(heard)
        self._informers[kind.plural] = informer
        return informer

    def _place(self, kind: Kind[Object]) -> str | None:
        """The namespace to look in; claim reports are in one of their own."""
        if kind.plural in OPTIONAL:
            return labels.SYSTEM_NAMESPACE
        return self._namespace if kind.namespaced else None

    def _feed(self, change: Change) -> None:
        if self._tap is not None:
            self._tap(change)
        self.world.apply(change)

    async def _probe(self, cluster: Cluster) -> None:
        for kind in WATCHED:
            await self.probe(cluster, kind)
        while True:
            for kind in WATCHED:
                await asyncio.sleep(PROBE_PERIOD)
                await self.probe(cluster, kind)

    async def probe(self, cluster: Cluster, kind: Kind[Object]) -> None:
        """Ask for one object of the kind and note what comes back."""
        begin = time.monotonic()
        try:
            await cluster.list(kind, self._place(kind), limit=1)
        except errors.Forbidden as error:
            self._note(kind.plural, "forbidden", error.message)
        except errors.NotFound:
            self._note(kind.plural, "missing", "no such resource")
        except errors.Unauthorized as error:
            self._note(kind.plural, "unauthorized", f"credentials refused: {error.message}")
        except (errors.Unreachable, errors.RequestTimeout) as error:
            self._note(kind.plural, "lost", str(error).partition(": ")[2] or str(error))  # without method and path
        except errors.KubeError as error:
            self._note(kind.plural, "lost", str(error))
        else:
            self._note(kind.plural, "live", "", time.monotonic() - begin)

    def _note(self, plural: str, state: str, detail: str, lag: float | None = None) -> None:
        old = self._health[plural]
        since = old.since if old.state == state else self.now()
        self._health[plural] = WatchHealth(plural, state, detail, since, lag)


async def _server(settings: KubeSettings) -> str:
    """Host and port of the server, for the title line."""
    access = await access_to(settings)
    return access.server.split("://", 1)[-1]


async def access_to(settings: KubeSettings) -> credentials.Access:
    """The way into the cluster, for what needs a connection of its own. Raises ConfigError."""
    path = settings.kubeconfig
    load = credentials.from_kubeconfig(path) if path is not None else credentials.in_cluster()
    return await credentials.Credentials(load, timeout=settings.request_timeout).current()
