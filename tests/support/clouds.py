"""Controllers, a claim engine and a node in one event loop, against an API server that runs as a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from appliance.api import kinds
from appliance.api.corestructs import Pod
from appliance.claims.engine import ClaimEngine
from appliance.claims.indexes import SANDBOX_INDEXES
from appliance.claims.runtime_client import RuntimeClient
from appliance.claims.seed import load_seed
from appliance.config import ClaimSettings, ControllerSettings, KubeSettings
from appliance.controller.main import work
from appliance.controller.world import World, make_world
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer

TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "x"}]}}
BAD_IMAGE = "bad"
"""Images whose name has this in it cannot be pulled by the node."""


@dataclass(frozen=True)
class Cloud:
    """What a test works with."""

    world: World
    engine: ClaimEngine
    user: Cluster
    pods: Informer[Pod]


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    await writer.drain()
    writer.close()


class Kubelet:
    """Brings pods up, ends deleted ones, replaces containers whose image changes, until the server has heard it."""

    def __init__(self, cluster: Cluster, pods: Informer[Pod]) -> None:
        self._cluster, self._pods = cluster, pods
        self._addresses: dict[str, str] = {}
        self._starts: dict[tuple[str, str], tuple[str, int]] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for pod in list(self._pods.items()):
                if pod.meta.deletion_timestamp:
                    await self._end(pod)
                elif not _told(pod, status := self._status(pod)):
                    await self._say(pod, status)
            await asyncio.sleep(0.01)

    async def _end(self, pod: Pod) -> None:
        with suppress(errors.KubeError):
            await self._cluster.delete(kinds.POD, pod.namespace, pod.name, uid=pod.uid, grace_seconds=0)

    async def _say(self, pod: Pod, status: dict[str, Any]) -> None:
        patch = {"status": status}
        try:
            answer = await self._cluster.patch(kinds.POD, pod.namespace, pod.name, patch, subresource="status")
        except errors.KubeError:
            return
        self._pods.observe(answer)

    def _status(self, pod: Pod) -> dict[str, Any]:
        number = len(self._addresses)
        ip = self._addresses.setdefault(pod.uid, f"127.9.{number // 250}.{number % 250 + 1}")
        told = [self._container(pod, container) for container in pod.spec.containers]
        ready = "True" if all(item["ready"] for item in told) else "False"
        condition = {"type": "Ready", "status": ready}
        return {"phase": "Running", "podIP": ip, "conditions": [condition], "containerStatuses": told}

    def _container(self, pod: Pod, container: dict[str, Any]) -> dict[str, Any]:
        key, image = (pod.uid, container["name"]), container["image"]
        before, count = self._starts.get(key, (image, 0))
        if before != image:
            count += 1
        self._starts[key] = (image, count)
        pulled = BAD_IMAGE not in image
        waiting = {"waiting": {"reason": "ErrImagePull", "message": f"pull access denied for {image}"}}
        return {
            "name": container["name"],
            "image": image,
            "imageID": f"sha256:{image}",
            "containerID": f"fake://{pod.uid}-{count}",
            "restartCount": count,
            "ready": pulled,
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}} if pulled else waiting,
            "resources": container.get("resources") or {},
        }


def _told(pod: Pod, status: dict[str, Any]) -> bool:
    known = {item.name: item for item in pod.status.container_statuses}
    return pod.status.phase == "Running" and all(
        (found := known.get(item["name"])) is not None
        and (found.container_id, found.resources or {}) == (item["containerID"], item["resources"])
        for item in status["containerStatuses"]
    )


@asynccontextmanager
async def cloud(server: Any, namespace: str | None = None) -> AsyncIterator[Cloud]:
    """Controllers (of one namespace, or of all), a claim engine and a node on that server; closed at the end."""
    kube = KubeSettings(kubeconfig=server.kubeconfig, backoff_max=0.5)
    own = replace(kube, kubeconfig=server.kubeconfig_of("controller"))
    of_node = replace(kube, kubeconfig=server.kubeconfig_of("node"))
    runtimes = await asyncio.start_server(_answer, "0.0.0.0", 0)
    runtime = RuntimeClient(port=runtimes.sockets[0].getsockname()[1])
    async with (
        await Cluster.connect(own) as ours,
        await Cluster.connect(of_node) as nodes,
        await Cluster.connect(kube) as user,
    ):
        seed = await load_seed(ours)
        settings = ControllerSettings(kube=own, namespace=namespace)
        world = replace(make_world(ours, settings, seed), runtime=runtime)
        pods = Informer(nodes, kinds.POD, namespace=namespace)
        sandboxes = Informer(user, kinds.SANDBOX, namespace=namespace, indexes=SANDBOX_INDEXES)
        sets = Informer(user, kinds.SANDBOXSET, namespace=namespace)
        engine = ClaimEngine(user, sandboxes=sandboxes, sets=sets, settings=ClaimSettings(), seed=seed, runtime=runtime)
        running = [pods.run(), Kubelet(nodes, pods).run(), sandboxes.run(), sets.run(), work(world)]
        tasks = [asyncio.create_task(coroutine) for coroutine in running]
        await asyncio.gather(world.synced(), sandboxes.synced(), sets.synced(), pods.synced())
        try:
            yield Cloud(world, engine, user, pods)
        finally:
            await engine.drain()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            runtimes.close()
            await runtimes.wait_closed()
