"""``--role=controller``, from start to stop.

Connect, make the informers and the controllers on them, wait until the copies are complete, then work; with leader
election only while the lease is held. On SIGTERM (cancellation of ``run``) the queues stop first, then clean-ups of
abandoned claims end, then the connection closes. Losing the lease ends the process: what it cached may be the past.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Coroutine
from typing import Any

from appliance.api import labels
from appliance.claims.engine import ClaimEngine
from appliance.claims.seed import load_seed
from appliance.config import ControllerSettings
from appliance.controller import metrics
from appliance.controller.admission import webhook
from appliance.controller.sandbox import SandboxController
from appliance.controller.sandboxclaim import SandboxClaimController
from appliance.controller.sandboxset import SandboxSetController
from appliance.controller.updateops import SandboxUpdateOpsController
from appliance.controller.world import World, make_world
from appliance.kube import errors
from appliance.kube.backoff import Backoff
from appliance.kube.cluster import Cluster
from appliance.kube.lease import LeaderElection

log = logging.getLogger(__name__)

LEASE_NAME = "appliance-controller"
_DRAIN = 10.0
"""Seconds that clean-ups of claims get at shutdown."""


async def run(settings: ControllerSettings) -> None:
    """Reconcile until cancelled. Raises ConfigError when the cluster's address or credentials are unusable."""
    async with await Cluster.connect(settings.kube) as cluster:
        if settings.webhook_listen is None:
            await _lead(cluster, settings)
            return
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(webhook.serve(cluster, settings))
            try:
                await _lead(cluster, settings)
            finally:
                serving.cancel()


async def _lead(cluster: Cluster, settings: ControllerSettings) -> None:
    """Work, with leader election only while the lease is held."""
    seed = await _first_seed(cluster)
    world = make_world(cluster, settings, seed)
    if not settings.leader_election:
        await work(world)
        return
    identity = f"{socket.gethostname()}-{os.getpid()}"
    election = LeaderElection(cluster, labels.SYSTEM_NAMESPACE, LEASE_NAME, identity)
    await election.run(lambda: work(world))


async def work(world: World) -> None:
    """Run informers and controllers of one world until cancelled."""
    engine = ClaimEngine(
        world.cluster,
        sandboxes=world.sandboxes,
        sets=world.sets,
        settings=world.settings.claims,
        seed=world.seed,
        clock=world.clock,
        runtime=world.runtime,
    )
    sandboxes = SandboxController(world)
    controllers = {
        "sandbox": sandboxes.queue,
        "sandboxset": SandboxSetController(world).queue,
        "sandboxclaim": SandboxClaimController(world, engine).queue,
        "sandboxupdateops": SandboxUpdateOpsController(world).queue,
    }
    server = await metrics.serve(world.settings.metrics_listen, world, engine, controllers)
    try:
        async with asyncio.TaskGroup() as group:
            background: list[Coroutine[Any, Any, None]] = [informer.run() for informer in world.informers]
            report = engine.ledger.publish(world.cluster, "sandbox-controller")
            for coroutine in (*background, world.events.run(), report):
                group.create_task(coroutine)
            await world.synced()
            log.info("caches complete: %d sandboxes, %d sets", len(world.sandboxes.items()), len(world.sets.items()))
            for queue in controllers.values():
                group.create_task(queue.run())
    finally:
        server.close()
        await sandboxes.hooks.close()
        await _drained(engine)


async def _drained(engine: ClaimEngine) -> None:
    """Let clean-ups of abandoned claims end, within limits."""
    try:
        async with asyncio.timeout(_DRAIN):
            await asyncio.shield(asyncio.ensure_future(engine.drain()))
    except TimeoutError:
        log.warning("clean-ups of claims were still running after %g s", _DRAIN)


async def _first_seed(cluster: Cluster) -> bytes:
    """The seed, as soon as the cluster answers: a controller may start before its API server."""
    backoff = Backoff(0.1, 5.0)
    while True:
        try:
            return await load_seed(cluster)
        except (errors.Unreachable, errors.RequestTimeout, errors.ServerError, errors.NotFound) as error:
            log.info("waiting for the cluster: %s", error)
            await asyncio.sleep(backoff.next())
