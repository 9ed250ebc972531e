"""``--role=node``: the node agent's start and end, read from top to bottom.

SIGTERM (and SIGINT) stops everything: pods (their layers stay), template, network, control groups. SIGKILL, and an
error that ends the agent, stop only the agent: sandboxes go on and the next agent adopts them.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from pathlib import Path

from appliance.config import NodeSettings
from appliance.embedded.node import disk, images, preflight, skeleton, staging
from appliance.embedded.node.agent import Agent
from appliance.embedded.node.apiclient import ApiClient
from appliance.embedded.node.containers import BEHIND_LOOPBACK, Means, host_ip, nameservers, resolv_conf
from appliance.embedded.node.egress_control import EgressControl
from appliance.embedded.node.eventrelay import EventRelay
from appliance.embedded.node.execution import Executor
from appliance.embedded.node.filterclient import FilterClient
from appliance.embedded.node.isolation import Isolation
from appliance.embedded.node.network import PodNetwork, box_lock
from appliance.embedded.node.nodeobject import SENTENCE, NodeObject
from appliance.embedded.node.records import Records
from appliance.embedded.node.server import NodeServer
from appliance.embedded.node.templateclient import TemplateClient

log = logging.getLogger(__name__)
DEFAULT_NAME_SERVER = "8.8.8.8"
"""Of sandboxes on a box whose own name servers are all out of their reach; the original service's (contract §1.12).

With domain rules the box answers in its place, from its own name servers."""


async def run(settings: NodeSettings) -> None:
    """Run until SIGTERM or SIGINT. Raises ``preflight.NotPossible`` or ``ValueError`` before touching anything."""
    if settings.isolation not in ("namespaces", "process"):
        raise ValueError(f"isolation: expected namespaces or process, found {settings.isolation!r}")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # The supervisor starts us with SIGTERM blocked: one that came before this line must not end us without cleaning up.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    _raise_descriptor_limit()
    means = await _prepare(settings)
    api = ApiClient.connect(settings.kubeconfig)
    node = NodeObject(api, settings, host_ip(), _notes(means.isolation), means.isolation)
    agent = Agent(means, api, node)
    agent.sweep_groups()
    server = NodeServer(settings.data_dir / "run" / "node.sock", agent, means)
    relay = EventRelay(means.isolation.network) if means.isolation.network is not None else None
    tasks: list[asyncio.Task[None]] = []
    try:
        await means.template.connect()
        await server.start()
        work = [node.run(), agent.run(settings.node_name), agent.keep_records()]
        if means.egress is not None:
            await means.egress.find()
            work.append(means.egress.keep())
        if relay is not None:
            await relay.start()
        tasks = [asyncio.create_task(one) for one in work]
        log.info("node %s is ready: %s", settings.node_name, SENTENCE)
        await _until(stop, tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.stop()
        if relay is not None:
            await relay.stop()
        if stop.is_set() or not agent.has_pods:
            await _stop(means, agent)
        else:  # our own failure is no reason to end anybody's sandbox: the next agent adopts them
            await agent.leave()
        await api.close()


async def _until(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Return when told to stop; a main task that ends by itself is an error and is raised."""
    waiting = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    if waiting not in done:
        waiting.cancel()
        for task in done:
            task.result()


async def _prepare(settings: NodeSettings) -> Means:
    directory = settings.data_dir / "node"
    for name in ("pods", "images", "volumes", "skeleton"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711)
    installation = staging.Installation.current()
    isolation = await asyncio.to_thread(_isolation, settings, installation)
    template = TemplateClient(
        settings.data_dir / "run" / "template.sock", settings.isolation, installation.fingerprint(), isolation.skeleton,
        settings.data_dir / "log" / "template.log",
    )  # fmt: skip
    (settings.data_dir / "log").mkdir(exist_ok=True)
    starts = asyncio.Semaphore(settings.start_concurrency)
    executor = Executor(template, isolation.isolated)
    egress = _egress(settings, isolation, installation)
    resolv = resolv_conf((settings.resolv_conf, BEHIND_LOOPBACK)) or f"nameserver {DEFAULT_NAME_SERVER}\n"
    return Means(isolation, template, Records(directory / "pods"), starts, resolv, executor, egress)


def _egress(settings: NodeSettings, isolation: Isolation, installation: staging.Installation) -> EgressControl | None:
    network = isolation.network
    if network is None:
        return None
    socket, log_path = settings.data_dir / "run" / "egress.sock", settings.data_dir / "log" / "egress.log"
    build = installation.fingerprint()
    return EgressControl(network, FilterClient(socket, str(network.gateway), settings.resolv_conf, build, log_path))


def _isolation(settings: NodeSettings, installation: staging.Installation) -> Isolation:
    library = images.Library(settings.data_dir / "node" / "images")
    if settings.isolation == "process":
        log.warning("isolation=process isolates nothing: pods see and can do whatever the user of this agent can")
        return Isolation(settings, Path("/"), None, None, False, library)
    preflight.privileges()
    with box_lock():
        network = PodNetwork.claim(settings.bridge, settings.pod_cidr, settings.data_dir)
        hierarchy = preflight.check(network.bridge)
        network.make_bridge()
    network.set_up(nameservers(resolv_conf((settings.resolv_conf, BEHIND_LOOPBACK))))
    root = skeleton.ensure(settings.data_dir / "node" / "skeleton", installation)
    loops = disk.supported()
    if not loops:
        log.warning(
            "no loop devices or no mkfs.ext4: writable layers share the box's disk without a limit of their own"
        )
    return Isolation(settings, root, hierarchy, network, loops, library)


def _notes(isolation: Isolation) -> dict[str, str]:
    prefix = "appliance.agents.kruise.io/"
    disks = "loop images, limited per sandbox" if isolation.loops else "shared with the box, not limited"
    notes = {f"{prefix}reservations": SENTENCE, f"{prefix}writable-layers": disks}
    notes[f"{prefix}isolation"] = "namespaces" if isolation.isolated else "none (isolation=process)"
    return notes


async def _stop(means: Means, agent: Agent) -> None:
    """In this order: pods, then what they were made from, then what they stood on."""
    log.info("stopping: every sandbox of this node is ended, writable layers stay")
    await agent.stop()
    await means.template.stop()
    if means.egress is not None:
        await means.egress.stop()
    if means.isolation.network is not None:
        await asyncio.to_thread(means.isolation.network.tear_down)
    if means.isolation.hierarchy is not None:
        means.isolation.hierarchy.remove()


def _raise_descriptor_limit() -> None:
    """As many descriptors as the box allows this process: each pod takes a handful."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
