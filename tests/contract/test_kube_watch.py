"""Contract of watches and informers: order, bookmarks, expiry, cut connections, restarts, read-your-writes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from appliance.api.kinds import SANDBOX
from appliance.api.structs import Sandbox
from appliance.config import KubeSettings
from appliance.kube import errors, watching
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer
from appliance.kube.lease import LeaderElection

BODY = {"spec": {"template": {"spec": {"containers": [{"name": "sandbox", "image": "host"}]}}}}
LIMIT = 20.0
"""Seconds any single wait may take before the test fails."""


def sandbox(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels}, **BODY}


def settings(kubeconfig: Path) -> KubeSettings:
    return KubeSettings(kubeconfig=kubeconfig, page_size=10, backoff_initial=0.01, backoff_max=0.2)


@pytest.fixture
async def cluster(apiserver: Any) -> AsyncIterator[Cluster]:
    async with await Cluster.connect(settings(apiserver.kubeconfig)) as cluster:
        yield cluster


@asynccontextmanager
async def informing(cluster: Cluster, namespace: str, **options: Any) -> AsyncIterator[Informer[Sandbox]]:
    informer = Informer(cluster, SANDBOX, namespace=namespace, **options)
    task = asyncio.create_task(informer.run())
    try:
        await asyncio.wait_for(informer.synced(), LIMIT)
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def present(sbx: Sandbox | None) -> bool:
    return sbx is not None


def absent(sbx: Sandbox | None) -> bool:
    return sbx is None


async def test_a_watch_continues_where_a_list_ended(cluster: Cluster, namespace: str) -> None:
    """Every change after the list arrives once and in order, with rising versions."""
    start = (await cluster.list(SANDBOX, namespace)).resource_version
    await cluster.create(SANDBOX, namespace, sandbox("a"))
    await cluster.patch(SANDBOX, namespace, "a", {"spec": {"paused": True}})
    await cluster.delete(SANDBOX, namespace, "a")
    seen = []
    async with asyncio.timeout(LIMIT), aclosing(cluster.watch(SANDBOX, namespace, resource_version=start)) as events:
        async for event in events:
            seen.append(event)
            if len(seen) == 3:
                break
    assert [event.type for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    versions = [int(event.object.meta.resource_version) for event in seen]
    assert versions == sorted(versions)
    assert versions[0] > int(start)


async def test_bookmarks_move_an_idle_watch(embedded_apiserver: Any) -> None:
    """A watch of a quiet namespace learns the cluster's version while others write elsewhere.

    Not against kube-apiserver, which sends bookmarks once a minute at most and promises none.
    """
    async with await Cluster.connect(settings(embedded_apiserver.kubeconfig)) as cluster:
        start = (await cluster.list(SANDBOX, "quiet")).resource_version
        await cluster.create(SANDBOX, "default", {"metadata": {"generateName": "busy-"}, **BODY})
        source = cluster.source(SANDBOX, "quiet")
        async with asyncio.timeout(LIMIT), aclosing(watching.stream(source, start)) as events:
            event = await anext(events)
    assert event.type == "BOOKMARK"
    assert int(event.object.meta.resource_version) > int(start)


async def test_a_watch_with_a_selector_sees_objects_come_and_go(cluster: Cluster, namespace: str) -> None:
    """Entering the selector is ADDED, leaving it DELETED; the informer follows, and takes it back later."""
    async with informing(cluster, namespace, label_selector="pool=x") as informer:
        await cluster.create(SANDBOX, namespace, sandbox("a"))
        await cluster.create(SANDBOX, namespace, sandbox("b", pool="x"))
        await informer.wait_for(namespace, "b", present, LIMIT)
        assert informer.get(namespace, "a") is None
        for name, pool, wanted in (("a", "x", present), ("b", "y", absent), ("b", "x", present)):
            await cluster.patch(SANDBOX, namespace, name, {"metadata": {"labels": {"pool": pool}}})
            await informer.wait_for(namespace, name, wanted, LIMIT)


async def test_an_informer_reads_its_own_writes(cluster: Cluster, namespace: str) -> None:
    """observe shows each write at once; the watch never takes it back; in the end copy and server agree."""
    async with informing(cluster, namespace) as informer:
        informer.observe(await cluster.create(SANDBOX, namespace, sandbox("a")))
        for number in range(20):
            current = informer.get(namespace, "a")
            assert current is not None
            patch = {"metadata": {"annotations": {"n": str(number)}}}
            version = current.meta.resource_version
            informer.observe(await cluster.patch(SANDBOX, namespace, "a", patch, resource_version=version))
        final = await cluster.get(SANDBOX, namespace, "a")
        assert informer.get(namespace, "a") == final


async def test_a_deleted_object_is_not_brought_back(cluster: Cluster, namespace: str) -> None:
    """The late answer to a write is dropped once the watch has told of the deletion."""
    async with informing(cluster, namespace) as informer:
        made = await cluster.create(SANDBOX, namespace, sandbox("a"))
        informer.observe(made)
        await cluster.delete(SANDBOX, namespace, "a")
        await informer.wait_for(namespace, "a", absent, LIMIT)
        informer.observe(made)
        assert informer.get(namespace, "a") is None
        again = await cluster.create(SANDBOX, namespace, sandbox("a"))
        assert await informer.wait_for(namespace, "a", present, LIMIT) == again


class Cutter:
    """A TCP relay in front of the server that cuts every connection on command, in the middle of whatever it is."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Cutter:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> int:
        """Abort everything; how many connections there were."""
        for writer in self._writers:
            writer.transport.abort()
        return len(self._writers)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)  # before the first await: a relay that is still dialling is cut and waited for too
        mine = {writer}
        self._writers |= mine
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._target)
            mine.add(up_writer)
            self._writers.add(up_writer)
            if not writer.transport.is_closing():
                await asyncio.gather(self._pump(reader, up_writer), self._pump(up_reader, writer))
        finally:
            self._writers -= mine
            for one in mine:
                one.transport.abort()
            self._tasks.discard(task)

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.transport.abort()
        except ConnectionError:
            writer.transport.abort()


def _host_and_port(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    return parts.hostname, parts.port


async def test_cut_connections_lose_nothing(apiserver: Any, namespace: str, tmp_path: Path) -> None:
    """Connections are cut again and again while objects change: the informer ends with the server's truth."""
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    address = config["clusters"][0]["cluster"]["server"]
    async with (
        Cutter(*_host_and_port(address)) as cutter,
        await Cluster.connect(settings(apiserver.kubeconfig)) as direct,
    ):
        through = tmp_path / "kubeconfig"
        config["clusters"][0]["cluster"]["server"] = f"{urlsplit(address).scheme}://127.0.0.1:{cutter.port}"
        through.write_text(yaml.safe_dump(config))
        async with await Cluster.connect(settings(through)) as cluster, informing(cluster, namespace) as informer:
            cut = 0
            for number in range(30):
                await direct.create(SANDBOX, namespace, sandbox(f"s{number}"))
                if number % 3 == 0:
                    await direct.delete(SANDBOX, namespace, f"s{number}")
                if number % 7 == 0:
                    cut += cutter.cut()
            await direct.create(SANDBOX, namespace, sandbox("end"))
            await informer.wait_for(namespace, "end", present, LIMIT)
            truth = await direct.list(SANDBOX, namespace)
            assert {item.name: item for item in informer.items()} == {item.name: item for item in truth.items}
            assert cut > 0
            assert "Unreachable" in {cause for _, cause in cluster.metrics.watch_restarts}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restarted_server_is_found_again(own_apiserver: Callable[..., Any], number: int) -> None:
    """Stopped or killed, and started again: acknowledged writes are there, and the informer goes on."""
    server = await asyncio.to_thread(own_apiserver)
    async with await Cluster.connect(settings(server.kubeconfig)) as cluster, informing(cluster, "default") as informer:
        for index in range(5):
            informer.observe(await cluster.create(SANDBOX, "default", sandbox(f"s{index}")))
        await asyncio.to_thread(server.stop, number)
        with pytest.raises(errors.Unreachable):
            await cluster.create(SANDBOX, "default", sandbox("lost"))
        await asyncio.to_thread(server.start)
        await cluster.delete(SANDBOX, "default", "s0")
        await cluster.create(SANDBOX, "default", sandbox("after"))
        await informer.wait_for("default", "after", present, LIMIT)
        await informer.wait_for("default", "s0", absent, LIMIT)  # a new list adds first and removes at its end
        assert sorted(item.name for item in informer.items()) == ["after", "s1", "s2", "s3", "s4"]


async def test_an_expired_position_is_gone_and_the_informer_lists_again(own_apiserver: Callable[..., Any]) -> None:
    """A watch from before the server's memory is 410; an informer that was away so long still ends with the truth."""
    server = await asyncio.to_thread(own_apiserver)
    async with await Cluster.connect(settings(server.kubeconfig)) as cluster:
        for index in range(3):
            await cluster.create(SANDBOX, "default", sandbox(f"s{index}"))
            await cluster.delete(SANDBOX, "default", f"s{index}")
        await asyncio.to_thread(server.stop)
        await asyncio.to_thread(server.start)
        with pytest.raises(errors.Gone):
            async with (
                asyncio.timeout(LIMIT),
                aclosing(cluster.watch(SANDBOX, "default", resource_version="1")) as events,
            ):
                await anext(events)


async def test_two_candidates_and_one_lease(cluster: Cluster, namespace: str) -> None:
    """A real Lease: the first holds it, the second gets it as soon as the first lets go."""

    def election(identity: str) -> LeaderElection:
        return LeaderElection(cluster, namespace, "l", identity, duration=3, renew_deadline=2, retry=0.05)

    first, second = election("a"), election("b")
    async with asyncio.timeout(LIMIT):
        async with first:
            waiting = asyncio.create_task(second.__aenter__())
            await asyncio.sleep(0.3)
            assert first.is_leader
            assert not waiting.done()
        await waiting
        assert second.is_leader
        await second.__aexit__()
