"""The manager's application over a cluster in memory: real informers, real claim engine, fake API server and runtime.

``FakeCluster`` keeps objects as dicts, versions every write, enforces guards, and tells the informers at once. Its
``controller`` switch plays the Sandbox controller: a pause or resume that is asked for is done in the same turn.
"""

import asyncio
import copy
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from fake_line import FakeLine

from appliance.api import labels, times
from appliance.api.kinds import NAMESPACE, NODE, POD, SANDBOX, SANDBOXSET, SECRET, Kind
from appliance.claims.engine import ClaimEngine
from appliance.claims.pledges import Pledges
from appliance.config import KubeSettings, ManagerSettings
from appliance.gateway.stats import Stats
from appliance.kube import codec, errors
from appliance.kube.cluster import Listing
from appliance.kube.codec import Event
from appliance.kube.metrics import KubeMetrics
from appliance.manager.abilities import Abilities
from appliance.manager.app import create_app
from appliance.manager.create import Creator
from appliance.manager.guest import Guests
from appliance.manager.idempotency import Replays
from appliance.manager.journal import Journal
from appliance.manager.keys.standing import OPEN
from appliance.manager.keys.store import KeyStore
from appliance.manager.lifecycle import Lifecycle
from appliance.manager.lookup import Finder
from appliance.manager.main import Caches
from appliance.manager.observed import Observed
from appliance.manager.receipts import Receipts
from appliance.manager.roster import Roster
from appliance.manager.routes import RosterRoutes
from appliance.manager.sampler import Sampler
from appliance.manager.sandbox_logs import SandboxLogs
from appliance.manager.services import Services
from appliance.manager.shelf import Shelf
from appliance.manager.sizes import Sizer
from appliance.manager.spawns import Spawns
from appliance.manager.tags import Tags
from appliance.manager.team_metrics import TeamMetrics
from appliance.manager.templates import Templates

SEED = b"s" * 32
Body = dict[str, Any]


def _merge(target: Body, patch: Body) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            _merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


class FakeCluster:
    """An API server in memory with the surface of ``kube.Cluster`` that the manager and the engine use."""

    def __init__(self) -> None:
        self.settings = KubeSettings()
        self.metrics = KubeMetrics()
        self.objects: dict[tuple[str, str, str], Body] = {}
        self.caches: Caches | None = None
        self.controller = True
        self.calls: list[tuple[str, str, str]] = []
        self.fail: Callable[[str, str], BaseException | None] = lambda verb, plural: None
        self.output = ""
        """What every container has written."""
        self._versions = itertools.count(1)

    def source(self, *_: Any) -> None:
        """Informers here are told of changes directly."""

    async def get(self, kind: Kind[Any], namespace: str | None, name: str) -> Any:
        await self._enter("get", kind, name)
        return self._decode(kind, self._find(kind, namespace, name))

    async def pod_log(self, namespace: str, name: str, *, container: str, tail: int, limit: int) -> str:
        await self._enter("log", POD, name)
        return self.output

    async def list(self, kind: Kind[Any], namespace: str | None = None, *, label_selector: str, limit: int) -> Any:
        await self._enter("list", kind, label_selector)
        key, equals, value = label_selector.partition("=")
        labelled = [one for one in self._of(kind) if key in one["metadata"].get("labels", {})]
        found = [one for one in labelled if not equals or one["metadata"]["labels"][key] == value]
        return Listing([self._decode(kind, one) for one in found[:limit]], "1")

    def _of(self, kind: Kind[Any]) -> Sequence[Body]:
        return [stored for (plural, _, _), stored in self.objects.items() if plural == kind.plural]

    async def create(self, kind: Kind[Any], namespace: str | None, body: Body) -> Any:
        meta = dict(body["metadata"])
        name = meta.get("name") or meta["generateName"] + "x"
        await self._enter("create", kind, name)
        key = (kind.plural, namespace or "", name)
        if key in self.objects:
            raise errors.AlreadyExists(409, "AlreadyExists", name)
        if namespace and kind is SECRET and ("namespaces", "", namespace) not in self.objects:
            raise errors.NotFound(404, "NotFound", namespace)
        stored = copy.deepcopy(dict(body))
        created = times.format(times.now())
        stored["metadata"] |= {"name": name, "namespace": namespace or "", "uid": f"uid-{next(self._versions)}"}
        stored["metadata"]["creationTimestamp"] = created
        return self._store(kind, key, stored, "ADDED")

    async def patch(
        self,
        kind: Kind[Any],
        namespace: str | None,
        name: str,
        patch: Body,
        *,
        resource_version: str | None = None,
        subresource: str | None = None,
    ) -> Any:
        await self._enter("patch", kind, name)
        stored = copy.deepcopy(self._find(kind, namespace, name))
        if resource_version is not None and stored["metadata"]["resourceVersion"] != resource_version:
            raise errors.Conflict(409, "Conflict", name)
        _merge(stored, copy.deepcopy(dict(patch)))
        answer = self._store(kind, (kind.plural, namespace or "", name), stored, "MODIFIED")
        if kind is SANDBOX and self.controller:
            asyncio.get_running_loop().call_soon(self.reconcile, namespace, name)
        return answer

    async def delete(self, kind: Kind[Any], namespace: str | None, name: str, **options: Any) -> None:
        await self._enter("delete", kind, name)
        stored = self._find(kind, namespace, name)
        if options.get("uid") not in (None, stored["metadata"]["uid"]):
            raise errors.Conflict(409, "Conflict", name)
        if options.get("resource_version") not in (None, stored["metadata"]["resourceVersion"]):
            raise errors.Conflict(409, "Conflict", name)
        self.remove(kind, namespace or "", name)

    def remove(self, kind: Kind[Any], namespace: str, name: str) -> None:
        """The object is gone, and the informers know."""
        stored = self.objects.pop((kind.plural, namespace, name))
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self._tell(kind, Event("DELETED", self._decode(kind, stored)))

    def change(self, kind: Kind[Any], namespace: str, name: str, patch: Body) -> None:
        """Somebody else's write."""
        stored = copy.deepcopy(self.objects[kind.plural, namespace, name])
        _merge(stored, patch)
        self._store(kind, (kind.plural, namespace, name), stored, "MODIFIED")

    def reconcile(self, namespace: str, name: str) -> None:
        """What the Sandbox controller does about ``spec.paused``."""
        stored = self.objects.get((SANDBOX.plural, namespace, name))
        if stored is None or not self.controller:
            return
        wanted, phase = stored["spec"].get("paused", False), stored["status"]["phase"]
        now = times.format(times.now())
        files_only = stored["metadata"].get("annotations", {}).get(labels.PAUSE_CONTENTS) == "filesystem"
        reason = "FilesystemPauseSucceed" if files_only else "FreezePauseSucceed"
        if wanted and (phase == "Running" or (files_only and stored["status"]["conditions"][-1]["reason"] != reason)):
            done = {
                "type": "SandboxPaused",
                "status": "True",
                "reason": reason,
                "lastTransitionTime": now,
            }
            status = {"phase": "Paused", "conditions": [{"type": "Ready", "status": "False"}, done]}
        elif not wanted and phase == "Paused":
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        else:
            return
        self.change(SANDBOX, namespace, name, {"status": status})

    async def _enter(self, verb: str, kind: Kind[Any], name: str) -> None:
        self.calls.append((verb, kind.plural, name))
        await asyncio.sleep(0)
        error = self.fail(verb, kind.plural)
        if error is not None:
            raise error

    def _find(self, kind: Kind[Any], namespace: str | None, name: str) -> Body:
        try:
            return self.objects[kind.plural, namespace or "", name]
        except KeyError:
            raise errors.NotFound(404, "NotFound", f"{kind.plural} {name}") from None

    def _store(self, kind: Kind[Any], key: tuple[str, str, str], stored: Body, event: str) -> Any:
        stored["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[key] = stored
        decoded = self._decode(kind, stored)
        self._tell(kind, Event(event, decoded))
        return decoded

    def _tell(self, kind: Kind[Any], event: Event[Any]) -> None:
        for informer in self.caches.all() if self.caches else ():
            if informer.kind is kind:
                informer._on_event(event)

    @staticmethod
    def _decode(kind: Kind[Any], stored: Body) -> Any:
        return codec.decode_object(codec.encode(stored), kind.struct)


class FakeRuntime:
    """Takes every /init."""

    def __init__(self) -> None:
        self.inits: list[tuple[str, Body, str | None]] = []

    def dial(self, ip: str) -> FakeLine:
        return FakeLine(ip)

    async def init(
        self, ip: str, body: Body, token: str | None, *, timeout: float = 10.0, line: FakeLine | None = None
    ) -> None:
        self.inits.append((ip, dict(body), token))


class FakeGateway:
    """Remembers which sandboxes were reset."""

    def __init__(self) -> None:
        self.stats = Stats()
        self.resets: list[str] = []

    def reset(self, sandbox_id: str) -> int:
        self.resets.append(sandbox_id)
        return 0


class Clock:
    """The present, moved by tests."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.offset


class World:
    """A manager with everything around it."""

    def __init__(self, settings: ManagerSettings, session: aiohttp.ClientSession) -> None:
        self.cluster = FakeCluster()
        self.clock = Clock()
        self.runtime = FakeRuntime()
        self.gateway = FakeGateway()
        self.settings = settings
        self.key = ""
        cluster: Any = self.cluster
        self.caches = Caches(cluster, None)
        self.cluster.caches = self.caches
        for informer in self.caches.all():
            informer._on_listed("0", set())
        runtime: Any = self.runtime
        self.pledges = Pledges(settings.control_socket.with_suffix(".deliveries"))
        self.engine = ClaimEngine(
            cluster,
            sandboxes=self.caches.sandboxes,
            sets=self.caches.sets,
            settings=settings.claims,
            seed=SEED,
            clock=self.clock.now,
            runtime=runtime,
            pledges=self.pledges,
        )
        self.keys = KeyStore(cluster, self.caches.secrets, self.clock.now)
        self.roster = Roster(self.caches.sandboxes, seed=SEED, now=self.clock.now, on_lost=self.gateway.reset)
        self.lifecycle = Lifecycle(cluster, self.caches.sandboxes, self.roster, now=self.clock.now, runtime=runtime)
        wait = settings.min_resume_timeout
        finder = Finder(cluster, self.caches.sandboxes, self.roster, None)
        self.routes = RosterRoutes(
            self.roster,
            self.lifecycle,
            finder,
            min_resume_timeout=wait,
            now=self.clock.now,
            may_start=lambda team: self.keys.standing(team) == OPEN,
        )
        self.guests, self.teams, self.journal = Guests(session, self.clock.now), TeamMetrics(), Journal(self.clock.now)
        self.sampler = Sampler(self.roster, self.guests, self.teams, self.clock.now)
        self.logs = SandboxLogs(cluster, self.journal)
        self.spawns = Spawns()
        self.roster.observers += [self.journal, self.sampler, self.logs, self.spawns]
        sizer = Sizer(self.caches.sets, self.caches.templates)
        templates = Templates(self.caches.sets, sizer, self.spawns)
        self.wired = Services(
            settings=settings,
            cluster=cluster,
            keys=self.keys,
            roster=self.roster,
            finder=finder,
            lifecycle=self.lifecycle,
            abilities=Abilities(cluster),
            creator=Creator(self.engine, templates, self.roster.get, self.pledges),
            replays=Replays(finder.by_request, self.clock.now),
            templates=templates,
            shelf=Shelf(cluster, self.roster),
            tags=Tags(cluster, self.caches.sets),
            sizer=sizer,
            guests=self.guests,
            journal=self.journal,
            logs=self.logs,
            teams=self.teams,
            observed=Observed(),
            gateway=self.gateway,
            receipts=Receipts(self.lifecycle.discard, self.pledges.close),
            outcomes=self.engine.outcomes,
            now=self.clock.now,
        )
        self.app = create_app(self.wired)

    async def add_pool(
        self, name: str, replicas: int, *, namespace: str = "default", ip: str = "10.0.0.", disk: str | None = "10Gi"
    ) -> None:
        """A SandboxSet with warm sandboxes."""
        limits = {"cpu": "2", "memory": "1Gi"} | ({"ephemeral-storage": disk} if disk else {})
        pod = {"spec": {"containers": [{"name": "sandbox", "resources": {"limits": limits}}]}}
        spec = {"replicas": replicas, "template": pod}
        pool = await self.cluster.create(
            SANDBOXSET, namespace, {"metadata": {"name": name}, "spec": spec, "status": {"updateRevision": "r1"}}
        )
        for number in range(replicas):
            await self.add_member(pool, number, ip)

    async def add_node(self, *, keeps_files: bool) -> None:
        """A node that can, or cannot, keep files without memory."""
        own = {labels.NODE_KEEPS_FILES: "true"} if keeps_files else {}
        await self.cluster.create(NODE, None, {"metadata": {"name": "box", "labels": own}})

    async def add_member(self, pool: Any, number: int, ip: str) -> None:
        """One warm sandbox of a pool."""
        owner = {
            "apiVersion": labels.API_VERSION,
            "kind": "SandboxSet",
            "name": pool.name,
            "uid": pool.uid,
            "controller": True,
        }
        own = {labels.POOL: pool.name, labels.TEMPLATE: pool.name, labels.CLAIMED: "false", labels.TEMPLATE_HASH: "r1"}
        meta = {"name": f"{pool.name}-{number}", "labels": own, "ownerReferences": [owner]}
        status = {
            "phase": "Running",
            "sandboxIp": f"{ip}{number + 1}",
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        await self.cluster.create(SANDBOX, pool.namespace, {"metadata": meta, "spec": {}, "status": status})
        pod = {"metadata": {"name": meta["name"]}, "status": {"phase": "Running"}}
        await self.cluster.create(POD, pool.namespace, pod)

    async def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Any:
        """One API request with the admin key, or another; an empty key sends none."""
        headers = dict(options.pop("headers", {}))
        sent = self.key if key is None else key
        if sent:
            headers.setdefault("X-API-Key", sent)
        return await self.app.test_client().open(path, method=method, headers=headers, **options)

    async def create(self, version: str = "/v2", *, key: str | None = None, **body: Any) -> Body:
        """A sandbox, created through the API."""
        answer = await self.call("POST", f"{version}/sandboxes", key=key, json={"templateID": "python", **body})
        assert answer.status_code == 201, await answer.get_data(as_text=True)
        result: Body = await answer.get_json()
        return result

    def stored(self, sandbox_id: str) -> Body:
        """The Sandbox object behind an id."""
        for stored in self.cluster.objects.values():
            if stored["metadata"].get("labels", {}).get(labels.SANDBOX_ID) == sandbox_id:
                return stored
        raise LookupError(sandbox_id)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[ManagerSettings]:
    """Settings with everything in a temporary directory."""
    yield replace(ManagerSettings(), control_socket=tmp_path / "manager.sock")


@pytest.fixture
async def world(settings: ManagerSettings, tmp_path: Path) -> AsyncIterator[World]:
    """A manager with a warm pool ``python`` of three, and an admin key of team ``default``."""
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        made = World(settings, session)
        for namespace in ("default", "other"):
            await made.cluster.create(NAMESPACE, None, {"metadata": {"name": namespace}})
        made.key = "e2b_" + "ab" * 20
        file = tmp_path / "api-key"
        file.write_text(made.key + "\n")
        await made.keys.adopt(file, name="initial", team="default")
        await made.add_pool("python", 3)
        enforcing = {"metadata": {"name": "enforcing", "labels": {labels.NODE_NETWORK_POLICY: "true"}}}
        await made.cluster.create(NODE, None, enforcing)
        yield made
        await made.engine.drain()
        await made.logs.drain()
        made.pledges.shut()
