"""An API server in memory, behind the ``Transport`` seam, so that the real Cluster and Informer run on top of it.

It has what controllers depend on: resourceVersion, generation, guarded merge patches and deletes, the status
subresource, watch fan-out, label selectors, finalizers and garbage collection by owner. ``trouble`` is asked before
every write and may make it fail, lose its answer, or take its time.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from appliance.config import KubeSettings
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from appliance.kube.metrics import KubeMetrics

Trouble = Callable[[str, str, Callable[[], bytes]], Awaitable[bytes]]
"""(verb, path, do) → answer; ``do()`` performs the write and returns its answer."""


async def no_trouble(verb: str, path: str, do: Callable[[], bytes]) -> bytes:
    return do()


class FakeServer:
    """The state all fake connections share."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        """Path → object."""
        self.requests: Counter[tuple[str, str]] = Counter()
        """(verb, plural[/subresource]) → requests that reached the server."""
        self.trouble: Trouble = no_trouble
        self.allows: Callable[[dict[str, Any]], bool] = lambda attributes: True
        """What SelfSubjectAccessReviews answer, by their resourceAttributes."""
        self.history: list[tuple[int, str, str, bytes]] = []
        """(version, collection path, type, object) of every change."""
        self.seen: list[dict[str, Any]] = []
        """Every version of every object that was ever written."""
        self._version = itertools.count(2)
        self._now = 1
        self._changed = asyncio.Event()

    def cluster(self) -> Cluster:
        """One more connection."""
        return Cluster(KubeSettings(), FakeTransport(self), KubeMetrics())  # type: ignore[arg-type]

    def writes(self, *plurals: str) -> Counter[tuple[str, str]]:
        """Writes that reached the server, without events."""
        return Counter(
            {key: n for key, n in self.requests.items() if key[0] != "get" and (not plurals or key[1] in plurals)}
        )

    def of(self, plural: str) -> list[dict[str, Any]]:
        """All objects of one resource."""
        return [item for path, item in self.objects.items() if path.split("/")[-2] == plural]

    # Writes -------------------------------------------------------------------------------------------------------
    def create(self, path: str, body: dict[str, Any]) -> bytes:
        meta = body.setdefault("metadata", {})
        where = f"{path}/{meta['name']}"
        if where in self.objects:
            raise errors.AlreadyExists(409, "AlreadyExists", where)
        parts = path.split("/")
        if "namespaces" in parts[:-1]:
            meta["namespace"] = parts[parts.index("namespaces") + 1]
        meta.update(uid=str(uuid.uuid4()), generation=1, creationTimestamp="2026-01-01T00:00:00Z")
        body.pop("status", None)
        return self._put(where, body, "ADDED")

    def patch(self, path: str, patch: dict[str, Any]) -> bytes:
        status = path.endswith("/status")
        where = path.removesuffix("/status").removesuffix("/resize")
        old = self._existing(where)
        guard = patch.get("metadata", {}).get("resourceVersion")
        if guard is not None and guard != old["metadata"]["resourceVersion"]:
            raise errors.Conflict(409, "Conflict", where)
        wanted = patch.get("metadata", {}).get("uid")
        if wanted is not None and wanted != old["metadata"]["uid"]:
            raise errors.Conflict(409, "Conflict", where)
        new = merge(old, {"status": patch.get("status", {})} if status else {**patch, "status": {}})
        if not status and new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"]
        if new == old:
            return json.dumps(old).encode()
        if new["metadata"].get("deletionTimestamp") and not new["metadata"].get("finalizers"):
            return self._gone(where)
        return self._put(where, new, "MODIFIED")

    def apply(self, path: str, body: dict[str, Any]) -> bytes:
        """Server-side apply by the only manager there is."""
        if path in self.objects:
            return self.patch(path, body)
        collection, _, name = path.rpartition("/")
        return self.create(collection, merge(body, {"metadata": {"name": name}}))

    def delete(self, path: str, options: dict[str, Any]) -> bytes:
        old = self._existing(path)
        for name, value in (options.get("preconditions") or {}).items():
            if old["metadata"][name] != value:
                raise errors.Conflict(409, "Conflict", path)
        if old["metadata"].get("finalizers"):
            stamped = copy.deepcopy(old)
            stamped["metadata"].setdefault("deletionTimestamp", "2026-01-01T00:00:00Z")
            return self._put(path, stamped, "MODIFIED")
        return self._gone(path)

    def _gone(self, path: str) -> bytes:
        old = self.objects.pop(path)
        answer = self._record(path, old, "DELETED")
        uid = old["metadata"]["uid"]
        for where, item in list(self.objects.items()):
            owners = item["metadata"].get("ownerReferences") or []
            if where in self.objects and any(owner["uid"] == uid for owner in owners):
                self.delete(where, {})
        return answer

    def _existing(self, path: str) -> dict[str, Any]:
        if path not in self.objects:
            raise errors.NotFound(404, "NotFound", path)
        return self.objects[path]

    def _put(self, path: str, body: dict[str, Any], kind: str) -> bytes:
        self.objects[path] = body
        return self._record(path, body, kind)

    def _record(self, path: str, body: dict[str, Any], kind: str) -> bytes:
        self._now = next(self._version)
        body["metadata"]["resourceVersion"] = str(self._now)
        data = json.dumps(body).encode()
        self.history.append((self._now, path.rsplit("/", 1)[0], kind, data))
        self.seen.append(json.loads(data))
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        return data

    # Reads --------------------------------------------------------------------------------------------------------
    def list(self, collection: str, params: Mapping[str, str]) -> bytes:
        found = [item for path, item in self.objects.items() if inside(path.rsplit("/", 1)[0], collection)]
        items = [item for item in found if selected(item, params)]
        return json.dumps({"metadata": {"resourceVersion": str(self._now)}, "items": items}).encode()

    async def watch(self, collection: str, params: Mapping[str, str]) -> AsyncIterator[bytes]:
        position = int(params["resourceVersion"])
        index = 0
        while True:
            changed = self._changed
            while index < len(self.history):
                version, where, kind, data = self.history[index]
                index += 1
                if version > position and inside(where, collection) and selected(json.loads(data), params):
                    yield b'{"type":"%s","object":%s}' % (kind.encode(), data)
            await changed.wait()


class FakeTransport:
    """One connection: what Cluster expects of a Transport."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def close(self) -> None:
        return None

    async def request(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "",
    ) -> bytes:
        server = self._server
        data = json.loads(body) if body else {}
        if path.endswith("/selfsubjectaccessreviews"):
            allowed = server.allows(data["spec"]["resourceAttributes"])
            return json.dumps({**data, "status": {"allowed": allowed}}).encode()
        if verb == "list":
            return server.list(path, params or {})
        if verb == "get":
            await asyncio.sleep(0)
            return json.dumps(server._existing(path)).encode()
        acts = {
            "create": lambda: server.create(path, data),
            "patch": lambda: server.patch(path, data),
            "apply": lambda: server.apply(path, data),
            "delete": lambda: server.delete(path, data),
        }
        parts = path.split("/")
        resource = parts[-1] if verb == "create" else parts[-2]
        if parts[-1] in ("status", "resize"):
            resource = f"{parts[-3]}/{parts[-1]}"

        def do() -> bytes:
            server.requests[verb, resource] += 1
            return acts[verb]()

        await asyncio.sleep(0)
        answer = await server.trouble(verb, path, do)
        await asyncio.sleep(0)
        return answer

    async def lines(
        self, verb: str, path: str, params: Mapping[str, str], *, inactivity: float
    ) -> AsyncIterator[bytes]:
        async for line in self._server.watch(path, params):
            yield line


def inside(where: str, collection: str) -> bool:
    """Whether a collection path is the asked one, or a namespace's part of the asked one."""
    if where == collection:
        return True
    parts = where.split("/")
    if "namespaces" not in parts[:-1]:
        return False
    at = parts.index("namespaces")
    return "/".join(parts[:at] + parts[at + 2 :]) == collection


def selected(item: dict[str, Any], params: Mapping[str, str]) -> bool:
    """Equality label selectors and metadata.name field selectors."""
    labels = item["metadata"].get("labels") or {}
    for term in filter(None, params.get("labelSelector", "").split(",")):
        key, equals, value = term.partition("=")
        if (labels.get(key) != value) if equals else (key not in labels):
            return False
    field = params.get("fieldSelector", "")
    return not field or item["metadata"]["name"] == field.removeprefix("metadata.name=")


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = copy.deepcopy(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result
