"""Requests and watches that are cancelled, cut short or starved leave no connection behind."""

import asyncio
import random
from typing import Any

import pytest
from aiohttp import web

from appliance.api.kinds import SANDBOX
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer


def busy(cluster: Cluster) -> int:
    connector = cluster._transport._session.connector
    assert connector is not None
    return len(connector._acquired)


async def trickle(request: web.Request) -> web.StreamResponse:
    """A body that arrives in pieces, with a pause of the loop between them."""
    response = web.StreamResponse()
    await response.prepare(request)
    for piece in (b'{"metadata":', b'{"name":"a"', b"}}"):
        await response.write(piece)
        await asyncio.sleep(0)
    return response


@pytest.mark.parametrize("seed", range(5))
async def test_cancelled_requests_give_their_connections_back(script: Any, cluster: Cluster, seed: int) -> None:
    """Two hundred requests, half of them cancelled at a random moment: none stays open, the next one works."""
    rand = random.Random(seed)
    script.then(trickle)

    async def cancelled() -> None:
        task = asyncio.create_task(cluster.get(SANDBOX, "d", "a"))
        for _ in range(rand.randrange(12)):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for _ in range(10):
        await asyncio.gather(
            *(cancelled() if rand.random() < 0.5 else cluster.get(SANDBOX, "d", "a") for _ in range(20))
        )
    assert busy(cluster) == 0
    assert (await cluster.get(SANDBOX, "d", "a")).name == "a"


async def test_a_cancelled_informer_leaves_nothing_open(script: Any, cluster: Cluster) -> None:
    """Cancelled while listing, while watching or while waiting to retry: no connection stays busy."""
    item = {"metadata": {"name": "a", "namespace": "d", "uid": "u", "resourceVersion": "1"}}
    for steps in ([script.hang()], [script.page(item), script.watch()], [script.status(500)], [script.drop()]):
        script.steps = steps
        for rounds in (0, 1, 5, 50):
            informer = Informer(cluster, SANDBOX)
            task = asyncio.create_task(informer.run())
            for _ in range(rounds):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert busy(cluster) == 0


async def test_a_body_that_never_ends_meets_the_deadline(script: Any, cluster: Cluster) -> None:
    """A server that sends half an object and falls silent is a RequestTimeout, not a hang."""
    cluster._transport._timeout = 0.05
    script.then(script.watch(b'{"metadata":{'))
    with pytest.raises(errors.RequestTimeout):
        await cluster.get(SANDBOX, "d", "a")
    assert busy(cluster) == 0


async def test_a_body_that_breaks_off_is_no_answer(script: Any, cluster: Cluster) -> None:
    """A connection cut in the middle of an object is Unreachable."""
    script.then(script.watch(b'{"metadata":{', end="break"))
    with pytest.raises(errors.Unreachable):
        await cluster.create(SANDBOX, "d", {})
    assert cluster.metrics.requests["create", "unreachable"] == 1


async def test_a_closed_cluster_refuses(script: Any, cluster: Cluster) -> None:
    """After close requests fail with a KubeError instead of hanging."""
    await cluster.close()
    script.then(script.json({}))
    with pytest.raises(errors.Unreachable):
        await cluster.get(SANDBOX, "d", "a")
