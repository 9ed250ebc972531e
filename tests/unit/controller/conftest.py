"""Controllers on an API server in memory, with a node that brings pods up as the test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fake_cluster import FakeServer
from fake_line import FakeLine

from appliance.api import labels, times
from appliance.claims.errors import InitFailed
from appliance.claims.runtime_client import Line, RuntimeClient
from appliance.config import ClaimSettings, ControllerSettings
from appliance.controller.main import work
from appliance.controller.world import make_world
from appliance.kube import errors

AGENTS = "/apis/agents.kruise.io/v1alpha1/namespaces/default"
PODS = "/api/v1/namespaces/default/pods"
POD_TEMPLATE = {"spec": {"containers": [{"name": "main", "env": [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}]}]}}


class FakeRuntime(RuntimeClient):
    """Records calls; ``refuse`` makes all of them fail."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str, Mapping[str, Any], str | None]] = []
        self.refuse = False

    def dial(self, ip: str) -> Line:
        return FakeLine(ip)

    async def _post(
        self, ip: str, path: str, body: Mapping[str, Any], token: str | None, timeout: float, line: Line | None = None
    ) -> None:
        if self.refuse:
            raise InitFailed(f"runtime at {ip} refused {path}")
        self.calls.append((path, ip, body, token))


class Cluster:
    """A small cluster: server, controllers, clock, and a node."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.runtime = FakeRuntime()
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.node_works = True
        self._task: asyncio.Task[None] | None = None
        self._numbers = iter(range(1, 10_000))
        self.settings = ControllerSettings(leader_election=False, claims=ClaimSettings(cleanup_timeout=5.0))
        self.renew()

    def renew(self) -> None:
        """Another controller process, with caches of its own."""
        world = make_world(self.server.cluster(), self.settings, b"s" * 32)
        self.world = replace(world, runtime=self.runtime, clock=lambda: self.now)

    async def start(self) -> None:
        self._task = asyncio.create_task(work(self.world))
        await self.world.synced()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def pass_time(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    # The user -----------------------------------------------------------------------------------------------------
    def apply(self, plural: str, name: str, spec: dict[str, Any], **meta: Any) -> None:
        self.server.create(f"{AGENTS}/{plural}", {"metadata": {"name": name, **meta}, "spec": spec})

    def patch(self, plural: str, name: str, patch: dict[str, Any]) -> None:
        self.server.patch(f"{AGENTS}/{plural}/{name}", patch)

    def delete(self, plural: str, name: str) -> None:
        self.server.delete(f"{AGENTS}/{plural}/{name}", {})

    def get(self, plural: str, name: str) -> dict[str, Any]:
        return self.server.objects[f"{AGENTS}/{plural}/{name}"]

    def pool(self, replicas: int, **spec: Any) -> None:
        self.apply("sandboxsets", "ci", {"replicas": replicas, "template": POD_TEMPLATE, **spec})

    def status(self, name: str = "ci") -> dict[str, Any]:
        return self.get("sandboxsets", name).get("status", {})

    def members(self) -> list[dict[str, Any]]:
        return [item for item in self.server.of("sandboxes") if item["metadata"].get("ownerReferences")]

    # The node -----------------------------------------------------------------------------------------------------
    def node(self, *, freezer: bool = False, keeps_files: bool = False) -> None:
        own = {labels.NODE_FREEZER: "cgroup"} if freezer else {}
        own |= {labels.NODE_KEEPS_FILES: "true"} if keeps_files else {}
        self.server.create("/api/v1/nodes", {"metadata": {"name": "box", "labels": own}})

    def bring_up(self, name: str, **status: Any) -> None:
        pod = self.server.objects[f"{PODS}/{name}"]
        pod["spec"]["nodeName"] = "box"
        ip = f"10.9.0.{next(self._numbers)}"
        ready = [{"type": "Ready", "status": "True"}]
        self.pod_status(name, **{"phase": "Running", "podIP": ip, "conditions": ready, **status})

    def pod_status(self, name: str, **status: Any) -> None:
        self.server.patch(f"{PODS}/{name}/status", {"status": status})

    def _run_node(self) -> None:
        """One round of the node: new pods come up, freezer wishes are fulfilled."""
        for pod in self.server.of("pods"):
            name, found = pod["metadata"]["name"], pod.get("status", {}).get("conditions", [])
            if not pod.get("status"):
                self.bring_up(name)
                continue
            wish = pod["metadata"].get("annotations", {}).get(labels.DESIRED_STATE)
            if wish == "halted" or any(item["type"] == labels.CONDITION_HALTED for item in found):
                self._halt_or_boot(pod, wish == "halted")
                continue
            said = {item["type"]: item["status"] for item in found}.get(labels.CONDITION_FROZEN)
            want = {"frozen": "True", "running": "False"}.get(wish or "")
            if want and said != want:
                kept = [item for item in found if item["type"] != labels.CONDITION_FROZEN]
                self.pod_status(name, conditions=[*kept, {"type": labels.CONDITION_FROZEN, "status": want}])

    def _halt_or_boot(self, pod: dict[str, Any], halt: bool) -> None:
        """End the pod's processes, or start them again: another run of its container."""
        status, want = pod["status"], "True" if halt else "False"
        if {item["type"]: item["status"] for item in status["conditions"]}.get(labels.CONDITION_HALTED) == want:
            return
        told = [{"type": labels.CONDITION_HALTED, "status": want}, {"type": "Ready", "status": str(not halt)}]
        runs = status.get("containerStatuses", [{"restartCount": 0}])[0]["restartCount"] + halt
        state = {"waiting": {"reason": "Halted"}} if halt else {"running": {"startedAt": times.format(self.now)}}
        container = {"name": "main", "ready": not halt, "restartCount": runs, "state": state}
        self.pod_status(pod["metadata"]["name"], conditions=told, containerStatuses=[container])

    async def until(self, holds: Callable[[], Any], timeout: float = 5.0) -> None:
        """Let everybody work until this holds; errors of missing keys count as "not yet"."""
        async with asyncio.timeout(timeout):
            while True:
                if self.node_works:
                    self._run_node()
                with suppress(KeyError, IndexError):
                    if holds():
                        return
                await asyncio.sleep(0.001)

    async def settle(self, rounds: int = 100) -> None:
        """Let everybody work for a while, for showing that nothing more happens."""
        for _ in range(rounds):
            if self.node_works:
                self._run_node()
            await asyncio.sleep(0.001)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A running cluster; stopped at the end of the test."""
    made = Cluster()
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def lost_answers() -> Callable[[FakeServer, int], None]:
    """Makes every n-th write land without an answer."""

    def install(server: FakeServer, every: int) -> None:
        count = iter(range(1, 1_000_000))

        async def trouble(verb: str, path: str, do: Callable[[], bytes]) -> bytes:
            answer = do()
            if next(count) % every == 0:
                raise errors.Unreachable("the answer got lost")
            return answer

        server.trouble = trouble

    return install
