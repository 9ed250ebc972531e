"""``--role=manager``, from top to bottom: what is wired to what, in which order it starts, in which it ends.

Start: cluster → informers filled → seed and first key → API on its Unix socket → gateway on the public one, so that
whoever can connect is served. End (SIGTERM, SIGINT): the gateway drains, then the API, then the clean-ups of abandoned
claims, then informers and the connection to the cluster. A task that ends by itself ends the process with an error:
its supervisor starts a fresh one, which is better than a manager that answers from a frozen cache.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from appliance.api import times
from appliance.api.kinds import SANDBOX, SANDBOXSET, SANDBOXTEMPLATE, SECRET
from appliance.api.labels import SYSTEM_NAMESPACE
from appliance.claims.engine import ClaimEngine
from appliance.claims.indexes import SANDBOX_INDEXES
from appliance.claims.pledges import Pledges
from appliance.claims.seed import load_seed
from appliance.config import ManagerSettings
from appliance.gateway import Gateway
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer
from appliance.manager import undelivered
from appliance.manager.abilities import Abilities
from appliance.manager.app import create_app
from appliance.manager.create import Creator
from appliance.manager.guest import Guests
from appliance.manager.history import History
from appliance.manager.idempotency import Replays
from appliance.manager.journal import Journal
from appliance.manager.keys.standing import OPEN
from appliance.manager.keys.store import KeyStore
from appliance.manager.lifecycle import Lifecycle
from appliance.manager.lookup import Finder
from appliance.manager.observed import Observed
from appliance.manager.receipts import Receipts
from appliance.manager.roster import Roster
from appliance.manager.routes import RosterRoutes
from appliance.manager.sampler import Sampler
from appliance.manager.sandbox_logs import SandboxLogs
from appliance.manager.services import Services
from appliance.manager.serving import serving
from appliance.manager.shelf import Shelf
from appliance.manager.sizes import Sizer
from appliance.manager.spawns import Spawns
from appliance.manager.tags import Tags
from appliance.manager.team_metrics import TeamMetrics
from appliance.manager.templates import Templates

FIRST_TEAM = "default"
"""Namespace of the key in ``initial_key_file``."""
logger = logging.getLogger(__name__)


class Caches:
    """The informers of a manager."""

    def __init__(self, cluster: Cluster, namespace: str | None) -> None:
        self.sandboxes = Informer(cluster, SANDBOX, namespace=namespace, indexes=SANDBOX_INDEXES)
        self.sets = Informer(cluster, SANDBOXSET, namespace=namespace)
        self.templates = Informer(cluster, SANDBOXTEMPLATE, namespace=namespace)
        self.secrets = Informer(cluster, SECRET, namespace=SYSTEM_NAMESPACE)

    def all(self) -> Iterable[Informer[Any]]:
        """Every one of them."""
        return self.sandboxes, self.sets, self.templates, self.secrets

    @property
    def synced(self) -> bool:
        """Whether all are filled."""
        return all(one.is_synced for one in self.all())

    async def filled(self) -> None:
        """Wait until they are."""
        for one in self.all():
            await one.synced()


async def run(settings: ManagerSettings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigError, ValueError, OSError: a setting that cannot be used, named in the message.
        RuntimeError: a part that must run for ever ended by itself.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = _stop_event()
    async with AsyncExitStack() as stack:
        cluster = await Cluster.connect(settings.kube)
        stack.push_async_callback(cluster.close)
        caches = Caches(cluster, settings.namespace)
        tasks = {asyncio.create_task(one.run(), name=f"informer {one.kind.plural}") for one in caches.all()}
        stack.push_async_callback(_cancel, tasks)
        if not await _unless(stop, caches.filled(), tasks):
            return
        gateway = await _serve(stack, settings, cluster, caches, tasks)
        logger.info("ready: serving on %s", ", ".join(f"{host}:{port}" for host, port in gateway.addresses))
        await _unless(stop, asyncio.Event().wait(), tasks)
        logger.info("stopping")


async def _serve(
    stack: AsyncExitStack,
    settings: ManagerSettings,
    cluster: Cluster,
    caches: Caches,
    tasks: set[asyncio.Task[None]],
) -> Gateway:
    """Build the services and start both servers; ``stack`` ends them, the gateway first, ``tasks`` last."""
    seed = await load_seed(cluster)
    pledges = Pledges(settings.control_socket.with_suffix(".deliveries"))
    stack.callback(pledges.shut)
    engine = ClaimEngine(
        cluster, sandboxes=caches.sandboxes, sets=caches.sets, settings=settings.claims, seed=seed, pledges=pledges
    )
    stack.push_async_callback(engine.drain)
    tasks.add(asyncio.create_task(engine.ledger.publish(cluster, "sandbox-manager"), name="claim report"))
    keys = KeyStore(cluster, caches.secrets, times.now)
    if settings.initial_key_file is not None:
        await keys.adopt(settings.initial_key_file, name="initial", team=FIRST_TEAM)
    roster = Roster(caches.sandboxes, seed=seed, now=times.now)
    lifecycle = Lifecycle(cluster, caches.sandboxes, roster, now=times.now)
    await undelivered.clear(pledges, roster, lifecycle)
    finder = Finder(cluster, caches.sandboxes, roster, settings.namespace)
    routes = RosterRoutes(
        roster,
        lifecycle,
        finder,
        min_resume_timeout=settings.min_resume_timeout,
        now=times.now,
        may_start=lambda team: keys.standing(team) == OPEN,
    )
    gateway = Gateway(settings.gateway, routes, settings.control_socket)
    roster.on_lost = gateway.reset
    receipts = Receipts(lifecycle.discard, pledges.close)
    gateway.on_receipt = receipts.settle
    session = await stack.enter_async_context(aiohttp.ClientSession())
    guests, teams, journal = Guests(session, times.now), TeamMetrics(), Journal(times.now)
    sampler = Sampler(roster, guests, teams, times.now)
    spawns = Spawns()
    history = History(settings.control_socket.with_suffix(".history"), journal, guests, teams, spawns)
    history.recover({entry.sandbox_id for entry, _ in roster.delivered()})
    for entry, state in roster.delivered():
        journal.moved(entry, None, state)
        spawns.recount(entry)
    stack.push_async_callback(history.save)
    tasks.add(asyncio.create_task(history.run(), name="history"))
    logs = SandboxLogs(cluster, journal)
    roster.observers += [journal, sampler, logs, spawns]
    stack.push_async_callback(logs.drain)
    tasks.add(asyncio.create_task(sampler.run(), name="sampler"))
    sizer, abilities = Sizer(caches.sets, caches.templates), Abilities(cluster)
    await sizer.measure(abilities.sandbox_disk)
    tasks.add(asyncio.create_task(sizer.keep(abilities.sandbox_disk), name="sizes"))
    templates = Templates(caches.sets, sizer, spawns)
    wired = Services(
        settings=settings,
        cluster=cluster,
        keys=keys,
        roster=roster,
        finder=finder,
        lifecycle=lifecycle,
        abilities=abilities,
        creator=Creator(engine, templates, roster.get, pledges),
        replays=Replays(finder.by_request, times.now),
        templates=templates,
        shelf=Shelf(cluster, roster),
        tags=Tags(cluster, caches.sets),
        sizer=sizer,
        guests=guests,
        journal=journal,
        logs=logs,
        teams=teams,
        observed=Observed(),
        gateway=gateway,
        receipts=receipts,
        outcomes=engine.outcomes,
        now=times.now,
        ready=lambda: caches.synced,
    )
    await stack.enter_async_context(serving(create_app(wired), settings.control_socket, settings.gateway))
    await stack.enter_async_context(_started(gateway))
    return gateway


@asynccontextmanager
async def _started(gateway: Gateway) -> AsyncIterator[None]:
    await gateway.start()
    try:
        yield
    finally:
        await gateway.drain()


async def _unless(stop: asyncio.Event, work: Any, tasks: set[asyncio.Task[None]]) -> bool:
    """Await ``work``; False when asked to stop first. Raises RuntimeError when one of ``tasks`` ends before."""
    stopping, working = asyncio.create_task(stop.wait()), asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({stopping, working, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _cancel({stopping, working} - {one for one in (stopping, working) if one.done()})
    for ended in done & tasks:
        raise RuntimeError(f"{ended.get_name()} ended by itself") from ended.exception()
    if working in done:
        await working
    return working in done


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task


def _stop_event() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    return stop
