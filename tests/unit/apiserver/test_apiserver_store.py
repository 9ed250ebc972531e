"""The store: group commit, a full disk, and files that are not ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.embedded.apiserver.status import ApiStatus
from appliance.embedded.apiserver.store.database import Database, StoreError
from appliance.embedded.apiserver.store.history import Change, History
from appliance.embedded.apiserver.store.record import Record, make_record
from appliance.embedded.apiserver.store.store import Store


def record(store: Store, name: str, size: int = 10) -> Record:
    version = store.reserve()
    meta = {"name": name, "namespace": "n", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return make_record("things", {"metadata": meta, "data": "x" * size}, version)


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[Store, Database]]:
    database = Database(path)
    store = Store(database, 100)
    await store.open(lambda _resource: ())
    task = asyncio.create_task(store.run())
    try:
        yield store, database
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def test_staged_is_for_writers_committed_for_readers(tmp_path: Path) -> None:
    """A staged object is seen by the next writer at once and by readers only once it is durable."""
    async with opened(tmp_path / "db") as (store, _):
        done = store.stage("ADDED", record(store, "a"))
        assert store.peek("things", "n", "a") is not None and store.get("things", "n", "a") is None
        await done
        assert store.get("things", "n", "a") is not None


async def test_settled_means_that_readers_see_what_writers_saw(tmp_path: Path) -> None:
    """After waiting, an object that made a creation fail as already there is found by a read."""
    async with opened(tmp_path / "db") as (store, _):
        await store.settled()
        store.stage("ADDED", record(store, "a"))
        await store.settled()
        assert store.get("things", "n", "a") is not None


async def test_reopening_finds_everything(tmp_path: Path) -> None:
    """Objects, deletions and the version counter are the same after closing and opening."""
    async with opened(tmp_path / "db") as (store, _):
        for name in "abc":
            await store.stage("ADDED", record(store, name))
        await store.stage("DELETED", record(store, "b"))
        version = store.version
    async with opened(tmp_path / "db") as (store, _):
        assert [r.name for r in store.items("things")] == ["a", "c"]
        assert store.version == version and store.reserve() == version + 1


async def test_full_disk_refuses_and_recovers(tmp_path: Path) -> None:
    """Without room a write is 507 and leaves no trace in memory or file; with room again writes work."""
    async with opened(tmp_path / "db") as (store, database):
        await store.stage("ADDED", record(store, "a"))
        connection: Any = database._connection
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count={pages + 2}")
        futures = [store.stage("ADDED", record(store, f"big{n}", 100_000)) for n in range(3)]
        results = await asyncio.gather(*futures, return_exceptions=True)
        assert all(isinstance(r, ApiStatus) and r.code == 507 and "no room" in r.message for r in results)
        assert store.peek("things", "n", "big0") is None
        connection.execute("PRAGMA max_page_count=100000")
        await store.stage("ADDED", record(store, "after"))
    async with opened(tmp_path / "db") as (store, _):
        assert [r.name for r in store.items("things")] == ["a", "after"]


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """A file of a later program version is refused by its format number."""
    database = Database(tmp_path / "db")
    database.open()
    connection: Any = database._connection
    connection.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StoreError, match="its format is 99"):
        database.open()


def test_history_forgets_with_a_floor() -> None:
    """Beyond its limit the history drops the oldest, and positions from before are unknown (410)."""
    history = History(10, 4)
    for version in range(11, 21):
        meta = {"name": "a", "namespace": "n", "uid": "u"}
        history.append(Change("MODIFIED", make_record("things", {"metadata": meta}, version), None))
    assert history.position(10) is None and history.since(0, 9) is None
    position = history.position(18)
    assert position is not None
    changes = history.since(position, 9)
    assert changes is not None and [change.record.version for change in changes] == [19, 20]


async def test_history_wait_is_woken_and_bounded() -> None:
    """A waiter is woken by wake(), and gives up after its timeout."""
    history = History(0, 4)
    waiting = asyncio.create_task(history.wait(0, 10))
    await asyncio.sleep(0)
    history.wake()
    assert await waiting is True
    assert await history.wait(0, 0.001) is False
