"""The seam between screens and their data: something that has a world, a present and a state of health."""

from __future__ import annotations

from typing import Protocol

from appliance.kube.cluster import Cluster
from tui.model.alerts import WatchHealth
from tui.model.world import World


class Source(Protocol):
    """A live cluster, or a player of recordings."""

    world: World
    cluster: Cluster | None
    """For reads of single objects and for actions; None while there is none."""
    label: str
    """What is looked at, for the title line."""

    def now(self) -> float:
        """The present of that world, seconds since the epoch."""

    def health(self) -> list[WatchHealth]:
        """How the watches are doing, in the order of WATCHED."""

    @property
    def ready(self) -> bool:
        """Whether the first lists are complete, so that emptiness means something."""

    async def run(self) -> None:
        """Feed the world until cancelled."""
