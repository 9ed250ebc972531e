"""The informer: live copy, handlers, waiting, read-your-writes, and relists that are told as changes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from appliance.api.kinds import SANDBOX
from appliance.api.structs import Meta, Sandbox, SandboxStatus
from appliance.kube.cluster import Cluster
from appliance.kube.informer import Informer


def raw(name: str, version: int, phase: str = "", uid: str = "", **labels: str) -> dict[str, Any]:
    meta = {
        "name": name,
        "namespace": "d",
        "uid": uid or f"u-{name}",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"metadata": meta, "status": {"phase": phase}}


def event(kind: str, *args: Any, **labels: str) -> dict[str, Any]:
    return {"type": kind, "object": raw(*args, **labels)}


def struct(name: str, version: int, phase: str = "", uid: str = "", **labels: str) -> Sandbox:
    meta = Meta(name=name, namespace="d", uid=uid or f"u-{name}", resource_version=str(version), labels=labels)
    return Sandbox(meta=meta, status=SandboxStatus(phase=phase))


@asynccontextmanager
async def running(cluster: Cluster, **options: Any) -> AsyncIterator[Informer[Sandbox]]:
    informer = Informer(cluster, SANDBOX, indexes={"phase": lambda sbx: [sbx.status.phase]}, **options)
    task = asyncio.create_task(informer.run())
    try:
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def version(informer: Informer[Sandbox], name: str) -> str | None:
    found = informer.get("d", name)
    return found.meta.resource_version if found else None


def at(wanted: int) -> Callable[[Sandbox | None], bool]:
    return lambda sbx: sbx is not None and sbx.meta.resource_version == str(wanted)


async def test_list_then_watch_fill_the_copy(script: Any, cluster: Cluster) -> None:
    """synced means every page is in; later events change objects, indexes and the number of items."""
    script.then(
        script.page(raw("a", 1, "Running"), token="t"),
        script.page(raw("b", 2, "Running")),
        script.watch(event("MODIFIED", "a", 11, "Paused"), event("DELETED", "b", 12), event("ADDED", "c", 13)),
    )
    async with running(cluster) as informer:
        await asyncio.wait_for(informer.synced(), 5)
        await informer.wait_for("d", "c", at(13), 5)
        assert version(informer, "a") == "11"
        assert informer.get("d", "b") is None
        assert [sbx.name for sbx in informer.by_index("phase", "Paused")] == ["a"]
        assert informer.by_index("phase", "Running") == ()
        assert len(informer.items()) == 2


async def test_handlers_hear_changes_in_order_after_the_cache_changed(script: Any, cluster: Cluster) -> None:
    """A failing handler does not silence the next; an ended subscription hears nothing more."""
    script.then(script.page(raw("a", 1)), script.watch(event("MODIFIED", "a", 11), event("DELETED", "a", 12)))
    heard: list[tuple[str | None, str | None, str | None]] = []
    informer = Informer(cluster, SANDBOX)

    def bad(old: Sandbox | None, new: Sandbox | None) -> None:
        raise RuntimeError("handler")

    def good(old: Sandbox | None, new: Sandbox | None) -> None:
        shown = [one.meta.resource_version if one else None for one in (old, new)]
        heard.append((shown[0], shown[1], version(informer, "a")))

    informer.subscribe(bad)
    unsubscribe = informer.subscribe(lambda old, new: heard.clear())
    informer.subscribe(good)
    unsubscribe()
    unsubscribe()
    task = asyncio.create_task(informer.run())
    await informer.wait_for("d", "a", at(1), 5)
    await informer.wait_for("d", "a", lambda sbx: sbx is None, 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert heard == [(None, "1", "1"), ("1", "11", "11"), ("11", None, None)]


async def test_a_relist_is_told_as_the_changes_it_implies(script: Any, cluster: Cluster) -> None:
    """After 410 nothing is emptied: unchanged objects are silent, changed, missing and replaced ones are told."""
    script.then(
        script.page(raw("same", 1), raw("changed", 2), raw("missing", 3), raw("replaced", 4, "", "old")),
        script.status(410, "Expired"),
        script.page(raw("same", 1), raw("changed", 12), raw("replaced", 13, "", "new"), version="20"),
        script.watch(event("ADDED", "end", 21)),
    )
    heard: list[tuple[str, str | None, str | None]] = []
    async with running(cluster) as informer:
        informer.subscribe(
            lambda old, new: heard.append(
                ((old or new).name, old and old.meta.resource_version, new and new.meta.resource_version)  # type: ignore[union-attr]
            )
        )
        await informer.wait_for("d", "end", at(21), 5)
    assert heard[4:] == [
        ("changed", "2", "12"),
        ("replaced", "4", None),
        ("replaced", None, "13"),
        ("missing", "3", None),
        ("end", None, "21"),
    ]


async def test_a_list_that_broke_half_way_leaves_no_ghosts(script: Any, cluster: Cluster) -> None:
    """An object shown only by the first page of a list that never completed, and gone since, is removed."""
    script.then(
        script.page(raw("ghost", 1), token="t"),
        script.status(500),
        script.page(raw("real", 2), version="20"),
        script.watch(),
    )
    async with running(cluster) as informer:
        await asyncio.wait_for(informer.synced(), 5)
        assert [sbx.name for sbx in informer.items()] == ["real"]


async def test_own_writes_are_visible_at_once_and_never_undone(script: Any, cluster: Cluster) -> None:
    """observe changes the copy before the watch does; the watch's older event is ignored, its newer one counts."""
    script.then(
        script.page(raw("a", 1)), script.watch(event("MODIFIED", "a", 11), event("MODIFIED", "a", 13, "Paused"))
    )
    async with running(cluster) as informer:
        await informer.wait_for("d", "a", at(1), 5)
        heard: list[str] = []
        informer.subscribe(lambda old, new: heard.append(new.meta.resource_version if new else "-"))
        informer.observe(struct("a", 12, "Running"))
        assert version(informer, "a") == "12"
        informer.observe(struct("a", 12, "Running"))
        await informer.wait_for("d", "a", at(13), 5)
    assert heard == ["12", "13"]


async def test_observed_creations_appear_and_deleted_ones_stay_dead(script: Any, cluster: Cluster) -> None:
    """The answer to a creation is there at once; a late answer after the deletion brings nothing back."""
    script.then(script.page(raw("a", 1)), script.watch(event("DELETED", "a", 12)))
    async with running(cluster) as informer:
        await informer.wait_for("d", "a", lambda sbx: sbx is None and informer.is_synced, 5)
        informer.observe(struct("new", 14))
        informer.observe(struct("a", 11))
        assert version(informer, "new") == "14"
        assert informer.get("d", "a") is None


async def test_what_no_longer_matches_leaves(script: Any, cluster: Cluster) -> None:
    """With a selector, the answer to a write that takes an object out of it removes it at once; others are ignored."""
    script.then(script.page(raw("a", 1, "", "", app="x")), script.watch())
    async with running(cluster, label_selector="app=x", namespace="d") as informer:
        await informer.wait_for("d", "a", at(1), 5)
        informer.observe(struct("b", 2, app="y"))
        informer.observe(Sandbox(meta=Meta(name="c", namespace="other", resource_version="3", labels={"app": "x"})))
        assert [sbx.name for sbx in informer.items()] == ["a"]
        informer.observe(struct("a", 4, app="y"))
        assert list(informer.items()) == []


async def test_waiting_ends_with_the_event_the_deadline_or_the_predicates_error(script: Any, cluster: Cluster) -> None:
    """wait_for returns at once when true, times out, raises the predicate's error, and leaves no waiter behind."""
    script.then(script.page(raw("a", 1)), script.watch())
    async with running(cluster) as informer:
        assert await informer.wait_for("d", "a", at(1), 5)
        with pytest.raises(TimeoutError):
            await informer.wait_for("d", "a", at(2), 0.01)
        calls = 0

        def fails_later(_: Sandbox | None) -> bool:
            nonlocal calls
            calls += 1
            if calls > 1:
                raise KeyError("predicate")
            return False

        waiting = asyncio.create_task(informer.wait_for("d", "a", fails_later, 5))
        others = [asyncio.create_task(informer.wait_for("d", "a", at(2), 5)) for _ in range(3)]
        while calls == 0 or len(informer._waiters.get(("d", "a"), ())) < 4:
            await asyncio.sleep(0)
        informer.observe(struct("a", 2))
        with pytest.raises(KeyError):
            await waiting
        assert all(await asyncio.gather(*others))
        assert informer._waiters == {}


async def test_a_cancelled_wait_leaves_nothing(script: Any, cluster: Cluster) -> None:
    """Cancelling a waiter removes it, and later changes do not touch it."""
    script.then(script.page(raw("a", 1)), script.watch())
    async with running(cluster) as informer:
        await asyncio.wait_for(informer.synced(), 5)
        waiting = asyncio.create_task(informer.wait_for("d", "a", at(2), 5))
        while not informer._waiters:
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert informer._waiters == {}
        informer.observe(struct("a", 2))


async def test_a_cluster_restored_from_a_backup_is_believed(script: Any, cluster: Cluster) -> None:
    """A list older than what was seen replaces the copy, though its versions are lower."""
    script.then(
        script.page(raw("a", 90), raw("b", 91), version="100"),
        script.status(410, "Expired"),
        script.page(raw("a", 5), version="6"),
        script.watch(event("ADDED", "end", 7)),
    )
    async with running(cluster) as informer:
        await informer.wait_for("d", "end", at(7), 5)
        assert version(informer, "a") == "5"
        assert informer.get("d", "b") is None


async def test_the_lag_of_the_watch_is_measured(script: Any, cluster: Cluster) -> None:
    """The time from a write's answer to the same change on the watch is a metric."""
    gate = asyncio.Event()

    async def late(request: Any) -> Any:
        await gate.wait()
        return await script.watch(event("MODIFIED", "a", 12), event("ADDED", "end", 13))(request)

    script.then(script.page(raw("a", 1)), late)
    async with running(cluster) as informer:
        await informer.wait_for("d", "a", at(1), 5)
        informer.observe(struct("a", 12))
        assert cluster.metrics.lag == {}
        gate.set()
        await informer.wait_for("d", "end", at(13), 5)
    assert 0 < cluster.metrics.lag["sandboxes"] < 5


def test_thousands_of_objects_are_cheap(benchmark_budget: float = 2.0) -> None:
    """Ten thousand objects are filed, changed and removed in well under two seconds of processor time."""
    from appliance.kube.store import Store

    cache: Store[Sandbox] = Store({"phase": lambda sbx: [sbx.status.phase]})
    started = time.process_time()
    for phase in ("Pending", "Running", "Paused"):
        for number in range(10_000):
            cache.upsert(struct(f"s{number}", len(phase) + {"Pending": 0, "Running": 10, "Paused": 20}[phase], phase))
    assert len(cache.by_index("phase", "Paused")) == 10_000
    for number in range(10_000):
        cache.remove(struct(f"s{number}", 99))
    assert len(cache.items()) == 0
    assert time.process_time() - started < benchmark_budget
