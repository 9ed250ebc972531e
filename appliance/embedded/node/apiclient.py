"""The node agent's own small client of the embedded API server: plain HTTP, a bearer token, JSON.

The node may not import ``kube/`` (it would drag the kubernetes package into the agent), and it needs only five
verbs. ``watch_pods`` never ends and survives everything: it lists, watches, lists again on 410 or any break, with
back-off.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml

from appliance.embedded.node.podstatus import stamp

log = logging.getLogger(__name__)
Json = dict[str, Any]
_BACKOFF = (0.1, 5.0)
_WATCH_SECONDS = 300
_MAX_LINE = 8 * 1024 * 1024


class ApiRefused(Exception):
    """The server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class Listed:
    """A complete list: what is not in it is gone."""

    items: list[Json]


@dataclass(frozen=True, slots=True)
class Changed:
    """One watch event; ``deleted`` carries the last state."""

    item: Json
    deleted: bool


class ApiClient:
    """Open with ``connect``, close with ``close``. Safe for any number of tasks."""

    def __init__(self, server: str, token: str) -> None:
        self._server = server.rstrip("/")
        timeout = aiohttp.ClientTimeout(total=30.0)
        headers = {"Authorization": f"Bearer {token}", "User-Agent": "appliance-node"}
        connector = aiohttp.TCPConnector(limit=32, force_close=False)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

    @classmethod
    def connect(cls, kubeconfig: Path) -> ApiClient:
        """From server and token of a kubeconfig file. Raises ``ValueError`` naming the missing field, ``OSError``."""
        document = yaml.safe_load(kubeconfig.read_text())
        try:
            server = document["clusters"][0]["cluster"]["server"]
            token = document["users"][0]["user"]["token"]
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{kubeconfig}: expected clusters[0].cluster.server and users[0].user.token") from error
        return cls(str(server), str(token))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def call(
        self, method: str, path: str, body: Json | None = None, *, content: str = "application/json"
    ) -> Json:
        """One request. Raises ``ApiRefused``; ``aiohttp.ClientError`` and ``TimeoutError`` (outcome unknown)."""
        data = None if body is None else msgspec.json.encode(body)
        async with self._session.request(
            method, self._server + path, data=data, headers={"Content-Type": content}
        ) as answer:
            text = await answer.read()
            if answer.status >= 400:
                raise ApiRefused(answer.status, _message(text))
            return msgspec.json.decode(text, type=Json)

    async def patch_status(self, namespace: str, name: str, status: Json) -> Json:
        """Merge-patch a pod's status."""
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
        return await self.call("PATCH", path, {"status": status}, content="application/merge-patch+json")

    async def event(self, pod: Json, reason: str, message: str) -> None:
        """A Warning about a pod, for ``kubectl describe``; losing it is not worth a retry."""
        meta, now = pod["metadata"], stamp(time.time())
        about = {"apiVersion": "v1", "kind": "Pod", **{key: meta[key] for key in ("name", "namespace", "uid")}}
        name = f"{meta['name']}.{uuid.uuid4().hex[:16]}"
        body = {
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": meta["namespace"]},
            "involvedObject": about, "type": "Warning", "reason": reason, "message": message[:1024], "count": 1,
            "firstTimestamp": now, "lastTimestamp": now, "source": {"component": "appliance-node"},
            "reportingComponent": "appliance-node", "reportingInstance": "appliance-node",
        }  # fmt: skip
        try:
            await self.call("POST", f"/api/v1/namespaces/{meta['namespace']}/events", body)
        except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.info("event about pod %s/%s not written: %s", meta["namespace"], meta["name"], error)

    async def delete_pod(self, namespace: str, name: str, uid: str) -> None:
        """Remove the pod object at once; one that is gone or replaced is fine."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
        try:
            await self.call("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}", body)
        except ApiRefused as error:
            if error.status not in (404, 409):
                raise

    async def watch_pods(self, node: str) -> AsyncIterator[Listed | Changed]:
        """Every pod of ``node``, then every change, for ever."""
        delay = _BACKOFF[0]
        while True:
            try:
                path = f"/api/v1/pods?fieldSelector=spec.nodeName%3D{node}"
                listing = await self.call("GET", path)
                yield Listed(listing["items"])
                delay = _BACKOFF[0]
                version = listing["metadata"]["resourceVersion"]
                async for event in self._watch(path, version):
                    yield event
            except (
                aiohttp.ClientError,
                TimeoutError,
                ApiRefused,
                msgspec.MsgspecError,
                KeyError,
                ConnectionError,
            ) as error:
                log.warning(
                    "pods: list or watch failed (%s), again in %.1f s", str(error) or type(error).__name__, delay
                )
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                delay = min(delay * 2, _BACKOFF[1])

    async def _watch(self, path: str, version: str) -> AsyncIterator[Changed]:
        """Watches from ``version``, again and again, until one is refused or breaks."""
        while True:
            url = f"{self._server}{path}&watch=true&allowWatchBookmarks=true&resourceVersion={version}"
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_WATCH_SECONDS / 2)
            async with self._session.get(f"{url}&timeoutSeconds={_WATCH_SECONDS}", timeout=timeout) as answer:
                if answer.status != 200:
                    raise ApiRefused(answer.status, _message(await answer.read()))
                async for line in _lines(answer.content):
                    event = msgspec.json.decode(line, type=Json)
                    item = event["object"]
                    if event["type"] == "ERROR":
                        raise ApiRefused(int(item.get("code", 500)), str(item.get("message", "watch error")))
                    version = item["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield Changed(item, event["type"] == "DELETED")


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length up to 8 MiB (aiohttp's own reader refuses long ones)."""
    rest = b""
    async for chunk in stream.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line:
                yield line
        if len(rest) > _MAX_LINE:
            raise ConnectionError("watch event larger than 8 MiB")


def _message(text: bytes) -> str:
    try:
        return str(msgspec.json.decode(text, type=Json).get("message", ""))
    except msgspec.MsgspecError:
        return text[:200].decode(errors="replace")
