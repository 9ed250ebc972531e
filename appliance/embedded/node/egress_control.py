"""Putting pods' network policies in force: the firewall's rules and, where a policy has domains, the filter's.

The filter process is started for the first policy with domains. It outlives the agent and is found again by its socket;
one that dies is started anew and told everything again. A policy counts as enforced only when both sides have it, and
the filter always has it first: in between the firewall leads nothing to it, or it refuses.
"""

from __future__ import annotations

import asyncio
import logging

from appliance.api.egress import OPEN, Egress
from appliance.embedded.filter.control import Hello
from appliance.embedded.node.filterclient import FilterClient
from appliance.embedded.node.network import PodNetwork

log = logging.getLogger(__name__)
RETRY_FIRST, RETRY_MAX = 0.1, 5.0
"""Seconds before a filter that died is started again; doubles while it does not start."""


class EgressControl:
    """Policies of all pods of the node."""

    def __init__(self, network: PodNetwork, client: FilterClient) -> None:
        self._network, self._client = network, client
        self._told: dict[str, Egress | None] = {}
        """What the filter knows; None: it has the policy that an earlier agent told it, and keeps that."""
        self._lock = asyncio.Lock()

    async def find(self) -> None:
        """Take over a filter that an earlier agent left. Raises ``OSError``."""
        async with self._lock:
            hello = await self._client.find()
            if hello is not None:
                await self._met(hello)

    async def _met(self, hello: Hello) -> None:
        await asyncio.to_thread(self._network.lead, hello.ports)
        for address in hello.sandboxes:
            self._told.setdefault(address, None)

    async def apply(self, address: str, egress: Egress) -> None:
        """Put a policy in force; calls for one address must not overlap. Raises ``OSError``."""
        if egress.domains or address in self._told:
            async with self._lock:
                self._told[address] = egress
                await self._tell(address, egress)
        await asyncio.to_thread(self._network.restrict, address, egress)

    async def release(self, address: str) -> None:
        """The pod has ended: its address has no policy any more. Raises ``OSError``."""
        if address in self._told:
            async with self._lock:
                del self._told[address]
                if self._client.connected:
                    await self._client.set(address, None)
        await asyncio.to_thread(self._network.restrict, address, OPEN)

    async def _tell(self, address: str, egress: Egress) -> None:
        """To the filter; one that is not there is started, if it is needed, and told everything. Raises ``OSError``."""
        if self._client.connected:
            await self._client.set(address, egress)
        elif self._needed():
            await self._begin()

    def _needed(self) -> bool:
        return any(egress is not None and egress.domains for egress in self._told.values())

    async def _begin(self) -> None:
        hello = await self._client.find() or await self._client.start()
        await self._met(hello)
        for address, egress in self._told.items():
            if egress is not None:
                await self._client.set(address, egress)

    async def keep(self) -> None:
        """Start the filter again whenever it is lost while pods need it, until cancelled."""
        delay = RETRY_FIRST
        while True:
            await self._client.lost()
            try:
                async with self._lock:
                    if self._client.connected:
                        continue
                    if not self._needed():
                        self._client.forget()
                        continue
                    log.warning("the filter of domain rules is gone: starting it again")
                    await self._begin()
                delay = RETRY_FIRST
            except OSError as error:
                log.error("the filter of domain rules: %s", error)
                await asyncio.sleep(delay)
                delay = min(RETRY_MAX, delay * 2)

    async def stop(self) -> None:
        """End the filter."""
        async with self._lock:
            await self._client.stop()
