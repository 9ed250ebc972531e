"""Claims and controllers against a real API server process, through its crashes."""

from __future__ import annotations

import asyncio
import signal

from clouds import TEMPLATE, cloud

from appliance.api import kinds, labels
from appliance.claims.request import ClaimRequest


async def test_refill_survives_a_killed_api_server(own_apiserver):
    """The API server is killed in the middle of a refill and started again: the pool ends exactly full."""
    server = own_apiserver()
    async with cloud(server) as running:
        world, user = running.world, running.user
        body = {"metadata": {"name": "ci"}, "spec": {"replicas": 80, "template": TEMPLATE}}
        await user.create(kinds.SANDBOXSET, "default", body)
        while len(world.sandboxes.items()) < 20:
            await asyncio.sleep(0.005)
        server.stop(signal.SIGKILL)
        server.start()
        full = await world.sets.wait_for(
            "default", "ci", lambda item: item is not None and item.status.available_replicas == 80, 60
        )
        assert full is not None and full.status.replicas == 80
        assert len((await user.list(kinds.SANDBOX, "default")).items) == 80


async def test_claims_through_a_killed_api_server(own_apiserver):
    """Claims in flight while the server is killed: those answered hold distinct sandboxes, the others leave none."""
    server = own_apiserver()
    async with cloud(server) as running:
        world, engine, user = running.world, running.engine, running.user
        body = {"metadata": {"name": "ci"}, "spec": {"replicas": 60, "template": TEMPLATE}}
        await user.create(kinds.SANDBOXSET, "default", body)
        await world.sets.wait_for(
            "default", "ci", lambda item: item is not None and item.status.available_replicas == 60, 30
        )
        while engine.stock("default", "ci") < 60:
            await asyncio.sleep(0.005)
        request = ClaimRequest(namespace="default", template="ci", owner="me", create_on_no_stock=False)
        claims = [asyncio.create_task(engine.claim(request)) for _ in range(40)]
        await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
        server.stop(signal.SIGKILL)
        server.start()
        outcomes = await asyncio.gather(*claims, return_exceptions=True)
        await engine.drain()
        told = {item.sandbox.name for item in outcomes if not isinstance(item, BaseException)}
        assert len(told) == sum(1 for item in outcomes if not isinstance(item, BaseException)) > 0
        found = (await user.list(kinds.SANDBOX, "default", label_selector=f"{labels.CLAIMED}=true")).items
        assert {item.name for item in found} == told
