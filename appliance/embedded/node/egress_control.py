"""Putting pods' network policies in force: the firewall's and, where one has domains or header rules, the filter's.

The filter process is started for the first such policy. It outlives the agent and is found again by its socket;
one that dies is started anew and told everything again. A policy counts as enforced only when both sides have it, and
the filter always has it first: in between the firewall leads nothing to it, or it refuses.
"""

from __future__ import annotations

import asyncio
import logging
from typing import NamedTuple

import msgspec

from appliance.api.egress import OPEN, Egress
from appliance.api.header_rules import HeaderRules
from appliance.embedded.filter.control import Hello
from appliance.embedded.node.filterclient import FilterClient
from appliance.embedded.node.network import PodNetwork

log = logging.getLogger(__name__)
RETRY_FIRST, RETRY_MAX = 0.1, 5.0
"""Seconds before a filter that died is started again; doubles while it does not start."""


class Told(NamedTuple):
    """What the filter was told of one pod."""

    egress: Egress
    rules: HeaderRules | None

    @property
    def needs_filter(self) -> bool:
        """Whether the policy cannot do without."""
        return bool(self.egress.domains or self.rules)


class EgressControl:
    """Policies of all pods of the node."""

    def __init__(self, network: PodNetwork, client: FilterClient) -> None:
        self._network, self._client = network, client
        self._told: dict[str, Told | None] = {}
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

    async def apply(self, address: str, egress: Egress, rules: HeaderRules | None = None) -> None:
        """Put a policy in force; calls for one address must not overlap. Raises ``OSError``.

        ``rules`` are those whose revision ``egress`` names; None: they are not there, so that only the rest holds.
        """
        told = Told(egress if rules is not None else msgspec.structs.replace(egress, rules=""), rules)
        if told.needs_filter or address in self._told:
            async with self._lock:
                self._told[address] = told
                await self._tell(address, told)
        await asyncio.to_thread(self._network.restrict, address, told.egress)

    async def release(self, address: str) -> None:
        """The pod has ended: its address has no policy any more. Raises ``OSError``."""
        if address in self._told:
            async with self._lock:
                del self._told[address]
                if self._client.connected:
                    await self._client.set(address, None)
        await asyncio.to_thread(self._network.restrict, address, OPEN)

    async def _tell(self, address: str, told: Told) -> None:
        """To the filter; one that is not there is started, if it is needed, and told everything. Raises ``OSError``."""
        if self._client.connected:
            await self._client.set(address, *told)
        elif self._needed():
            await self._begin()

    def _needed(self) -> bool:
        return any(told is not None and told.needs_filter for told in self._told.values())

    async def _begin(self) -> None:
        hello = await self._client.find() or await self._client.start()
        await self._met(hello)
        for address, told in self._told.items():
            if told is not None:
                await self._client.set(address, *told)

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
                    log.warning("the filter is gone: starting it again")
                    await self._begin()
                delay = RETRY_FIRST
            except OSError as error:
                log.error("the filter: %s", error)
                await asyncio.sleep(delay)
                delay = min(RETRY_MAX, delay * 2)

    async def stop(self) -> None:
        """End the filter."""
        async with self._lock:
            await self._client.stop()
