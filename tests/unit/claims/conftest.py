"""A claim engine on an API server in memory, a pool of ready sandboxes, and a runtime that answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest
from fake_cluster import FakeServer
from fake_line import FakeLine

from appliance.api import kinds, labels
from appliance.claims.engine import ClaimEngine
from appliance.claims.errors import InitFailed
from appliance.claims.indexes import SANDBOX_INDEXES
from appliance.claims.pledges import Pledges
from appliance.claims.request import ClaimRequest
from appliance.claims.runtime_client import Line, RuntimeClient
from appliance.config import ClaimSettings
from appliance.kube.informer import Informer

SANDBOXES = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes"
SETS = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxsets"


class FakeRuntime(RuntimeClient):
    """Records calls; ``hold`` keeps them waiting, ``refuse`` makes those addresses fail."""

    def __init__(self) -> None:
        super().__init__()
        self.inits: list[tuple[str, Mapping[str, Any], str | None]] = []
        self.refuse: set[str] = set()
        self.hold: asyncio.Event | None = None
        self.called = asyncio.Event()
        self.lines: list[FakeLine] = []

    def dial(self, ip: str) -> Line:
        self.lines.append(FakeLine(ip))
        return self.lines[-1]

    async def init(
        self,
        ip: str,
        body: Mapping[str, Any],
        token: str | None,
        *,
        timeout: float = 10.0,
        line: Line | None = None,
    ) -> None:
        self.called.set()
        if self.hold is not None:
            await self.hold.wait()
        await asyncio.sleep(0)
        if ip in self.refuse:
            raise InitFailed(f"runtime at {ip} refused")
        self.inits.append((ip, body, token))


class Bench:
    """Everything a claim test touches."""

    def __init__(self) -> None:
        self.server = FakeServer()
        self.runtime = FakeRuntime()
        self.tasks: list[asyncio.Task[None]] = []
        self.set_uid = ""

    def stock(self, count: int, *, revision: str = "r1", prefix: str = "s") -> None:
        """A set ``ci`` (once) and so many available members."""
        if not self.server.of("sandboxsets"):
            self.server.create(SETS, {"metadata": {"name": "ci"}, "spec": {"replicas": count, "template": {}}})
            status = {"updateRevision": "r1", "currentRevision": "ci-r1"}
            self.server.patch(f"{SETS}/ci/status", {"status": status})
            self.set_uid = self.server.objects[f"{SETS}/ci"]["metadata"]["uid"]
        for number in range(count):
            self.member(f"{prefix}{number}", revision, f"10.0.{number // 250}.{number % 250 + 1}")

    def member(self, name: str, revision: str, ip: str) -> None:
        own = {labels.POOL: "ci", labels.TEMPLATE: "ci", labels.TEMPLATE_HASH: revision, labels.CLAIMED: "false"}
        owner = {"apiVersion": labels.API_VERSION, "kind": "SandboxSet", "name": "ci", "uid": self.set_uid}
        meta = {"name": name, "labels": own, "ownerReferences": [{**owner, "controller": True}]}
        self.server.create(SANDBOXES, {"metadata": meta, "spec": {"templateRef": {"name": "ci-r1"}}})
        self.ready(name, ip)

    def ready(self, name: str, ip: str) -> None:
        conditions = [{"type": "Ready", "status": "True"}]
        status = {"phase": "Running", "sandboxIp": ip, "conditions": conditions}
        self.server.patch(f"{SANDBOXES}/{name}/status", {"status": status})

    async def engine(self, pledges: Pledges | None = None, **settings: Any) -> ClaimEngine:
        """One more engine with caches of its own, as another process would have; complete at return."""
        cluster = self.server.cluster()
        sandboxes = Informer(cluster, kinds.SANDBOX, indexes=SANDBOX_INDEXES)
        sets = Informer(cluster, kinds.SANDBOXSET)
        options = ClaimSettings(**{"cleanup_timeout": 5.0, **settings})
        engine = ClaimEngine(
            cluster,
            sandboxes=sandboxes,
            sets=sets,
            settings=options,
            seed=b"s" * 32,
            runtime=self.runtime,
            pledges=pledges,
        )
        self.tasks += [asyncio.create_task(sandboxes.run()), asyncio.create_task(sets.run())]
        await sandboxes.synced()
        await sets.synced()
        return engine

    def claimed(self) -> list[dict[str, Any]]:
        """Sandboxes that belong to somebody."""
        return [
            item for item in self.server.of("sandboxes") if item["metadata"]["labels"].get(labels.CLAIMED) == "true"
        ]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A fresh bench; its informers end with the test."""
    made = Bench()
    yield made
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    assert not [line.ip for line in made.runtime.lines if line.open], "a connection to a runtime was left open"


@pytest.fixture
def ask() -> Callable[..., ClaimRequest]:
    """A request for one ``ci``; keyword arguments override."""

    def make(**options: Any) -> ClaimRequest:
        return ClaimRequest(**{"namespace": "default", "template": "ci", "owner": "key-1", **options})

    return make
