"""Claims and controllers against a real API server process, through its crashes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from appliance.api import kinds, labels
from appliance.claims.engine import ClaimEngine
from appliance.claims.indexes import SANDBOX_INDEXES
from appliance.claims.request import ClaimRequest
from appliance.claims.runtime_client import RuntimeClient
from appliance.claims.seed import load_seed
from appliance.config import ClaimSettings, ControllerSettings, KubeSettings
from appliance.controller.main import work
from appliance.controller.world import make_world
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "x"}]}}


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await writer.drain()
    writer.close()


async def _node(cluster: Cluster, pods: Informer[Any]) -> None:
    """Brings every pod up, again and again until the server has heard it."""
    number = 0
    while True:
        for pod in list(pods.items()):
            if pod.status.phase != "Running":
                number += 1
                ready = {"phase": "Running", "podIP": f"127.9.{number // 250}.{number % 250 + 1}"}
                ready["conditions"] = [{"type": "Ready", "status": "True"}]  # type: ignore[assignment]
                try:
                    patch = {"status": ready}
                    pods.observe(await cluster.patch(kinds.POD, pod.namespace, pod.name, patch, subresource="status"))
                except errors.KubeError:
                    continue
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _cloud(server: Any) -> AsyncIterator[tuple[Any, ClaimEngine, Cluster]]:
    """Controllers, a claim engine and a node on that server; ended and closed at the end."""
    kube = KubeSettings(kubeconfig=server.kubeconfig, backoff_max=0.5)
    runtimes = await asyncio.start_server(_answer, "0.0.0.0", 0)
    runtime = RuntimeClient(port=runtimes.sockets[0].getsockname()[1])
    async with (
        await Cluster.connect(kube) as ours,
        await Cluster.connect(kube) as nodes,
        await Cluster.connect(kube) as user,
    ):
        seed = await load_seed(ours)
        world = replace(make_world(ours, ControllerSettings(kube=kube), seed), runtime=runtime)
        pods = Informer(nodes, kinds.POD)
        sandboxes = Informer(user, kinds.SANDBOX, indexes=SANDBOX_INDEXES)
        sets = Informer(user, kinds.SANDBOXSET)
        engine = ClaimEngine(user, sandboxes=sandboxes, sets=sets, settings=ClaimSettings(), seed=seed, runtime=runtime)
        running = [pods.run(), _node(nodes, pods), sandboxes.run(), sets.run(), work(world)]
        tasks = [asyncio.create_task(coroutine) for coroutine in running]
        await asyncio.gather(world.synced(), sandboxes.synced(), sets.synced(), pods.synced())
        try:
            yield world, engine, user
        finally:
            await engine.drain()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            runtimes.close()
            await runtimes.wait_closed()


async def test_refill_survives_a_killed_api_server(own_apiserver):
    """The API server is killed in the middle of a refill and started again: the pool ends exactly full."""
    server = own_apiserver()
    async with _cloud(server) as (world, _, user):
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
    async with _cloud(server) as (world, engine, user):
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
