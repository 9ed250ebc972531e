"""Objects in memory, durable before they are acknowledged.

Writers work on the *staged* state (committed objects overlaid with changes on their way to disk) and are synchronous
up to staging, so a guarded write needs no lock: between reading the staged object and staging its successor nothing
else runs. Readers and watchers see only what is committed. A flusher hands everything staged so far to the worker
thread as one transaction; while it runs the next batch gathers (group commit). When a batch fails, it and everything
staged on top of it fails, and the committed state stands.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from appliance.embedded.apiserver.status import ApiStatus, internal, storage_full, unavailable
from appliance.embedded.apiserver.store.database import Database, Row, WriteFailed
from appliance.embedded.apiserver.store.history import Change, History
from appliance.embedded.apiserver.store.record import Record, decode, make_record

log = logging.getLogger(__name__)
Key = tuple[str, str, str]
"""(resource, namespace, name)."""
FAILURE_QUIET = 10.0
"""Seconds between two log lines about writes that fail."""
MAX_STAGED = 5_000
"""Changes waiting for the disk; more are refused with 429."""


class Store:
    """See the module docstring. One per process; every method but ``run`` belongs to the event loop."""

    def __init__(self, database: Database, history_limit: int) -> None:
        self._database = database
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._kinds: dict[str, dict[str, dict[str, Record]]] = {}
        self._staged: dict[Key, Change] = {}
        self._queue: list[Change] = []
        self._work = asyncio.Event()
        self._reserved = 0
        self._floor = 0
        self._history_limit = history_limit
        self._histories: dict[str, History] = {}
        self._listeners: list[Callable[[list[Change]], None]] = []
        self._closing = False
        self._failures = 0
        self._failure_told = -FAILURE_QUIET
        self.version = 0
        """The newest committed resourceVersion."""
        self.uids: dict[str, Key] = {}
        """uid of every committed object."""
        self.dependents: dict[str, set[Key]] = {}
        """Owner uid to the committed objects that name it."""

    # -- start and stop ------------------------------------------------------------------------------------------

    async def open(self, selectable: Callable[[str], Iterable[str]]) -> None:
        """Opens the file and loads it; StoreError when it cannot be used.

        ``selectable(resource)`` names the selectable fields of a kind.
        """
        rows, head = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        for resource, _, _, version, body in rows:
            if body is not None:
                self._insert(make_record(resource, decode(body), version, selectable(resource)))
        self.version = self._reserved = self._floor = head

    def _load(self) -> tuple[list[Row], int]:
        self._database.open()
        return list(self._database.rows()), self._database.head()

    async def run(self) -> None:
        """Flushes batches until cancelled; then writes what is staged."""
        try:
            while True:
                await self._work.wait()
                self._work.clear()
                while self._queue:
                    await self._flush()
        finally:
            self._closing = True

    async def close(self) -> None:
        """Writes what is still staged, then closes the file. Call after ``run`` has ended."""
        self._closing = True
        while self._queue:
            await self._flush()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
        self._thread.shutdown(wait=False)

    def listen(self, listener: Callable[[list[Change]], None]) -> None:
        """Calls ``listener`` with every committed batch, in order, in the event loop; it must not raise."""
        self._listeners.append(listener)

    # -- reading -------------------------------------------------------------------------------------------------

    def get(self, resource: str, namespace: str, name: str) -> Record | None:
        """The committed object."""
        return self._kinds.get(resource, {}).get(namespace, {}).get(name)

    def items(self, resource: str, namespace: str | None = None) -> list[Record]:
        """Committed objects of a kind, ordered by namespace and name; ``namespace`` None: all."""
        spaces = self._kinds.get(resource, {})
        chosen: Mapping[str, dict[str, Record]] = (
            spaces if namespace is None else {namespace: spaces.get(namespace, {})}
        )
        return [space[name] for _, space in sorted(chosen.items()) for name in sorted(space)]

    def peek(self, resource: str, namespace: str, name: str) -> Record | None:
        """The staged object: what a write must build on."""
        change = self._staged.get((resource, namespace, name))
        if change is None:
            return self.get(resource, namespace, name)
        return None if change.kind == "DELETED" else change.record

    async def settled(self) -> None:
        """Wait until what is staged now is committed or has failed."""
        pending = [change.done for change in self._staged.values() if change.done is not None]
        if pending:
            await asyncio.wait(pending)

    def kinds(self) -> list[str]:
        """Store keys of the kinds that have objects."""
        return [resource for resource, spaces in self._kinds.items() if any(spaces.values())]

    def staged_in(self, namespace: str) -> bool:
        """Whether any change in the namespace is still on its way to disk."""
        return any(key[1] == namespace for key in self._staged)

    def history(self, resource: str) -> History:
        """The change log of a kind."""
        history = self._histories.get(resource)
        if history is None:
            history = self._histories[resource] = History(self._floor, self._history_limit)
        return history

    def reindex(self, resource: str, selectable: Iterable[str]) -> None:
        """Recomputes the selectable fields of a kind (custom kinds are known only after loading)."""
        for record in self.items(resource):
            self._kinds[resource][record.namespace][record.name] = make_record(
                resource, record.object(), record.version, selectable
            )

    def wake_all(self) -> None:
        """Wakes every watcher, so that it sees that the server is stopping."""
        for history in self._histories.values():
            history.wake()

    # -- writing -------------------------------------------------------------------------------------------------

    def reserve(self) -> int:
        """The resourceVersion of the change about to be staged."""
        self._reserved += 1
        return self._reserved

    def stage(self, kind: str, record: Record) -> asyncio.Future[None]:
        """Stages ADDED, MODIFIED or DELETED; the future ends when it is durable, or raises ApiStatus.

        Dropping the future does not undo the change.
        """
        if self._closing:
            raise unavailable("the API server is shutting down")
        if len(self._queue) >= MAX_STAGED:
            raise ApiStatus(429, "TooManyRequests", "too many writes are waiting for the disk", retry_after=1)
        key = record[:3]
        change = Change(kind, record, self.peek(*key))
        change.done = asyncio.get_running_loop().create_future()
        self._staged[key] = change
        self._queue.append(change)
        self._work.set()
        return change.done

    async def _flush(self) -> None:
        batch, self._queue = self._queue, []
        rows: list[Row] = [
            (*c.record[:3], c.record.version, None if c.kind == "DELETED" else c.record.body) for c in batch
        ]
        commit = asyncio.get_running_loop().run_in_executor(
            self._thread, self._database.commit, rows, batch[-1].record.version
        )
        try:
            await asyncio.shield(commit)
        except asyncio.CancelledError:
            await asyncio.wait([commit])
            self._settle(batch, commit)
            raise
        except Exception as error:
            if not isinstance(error, WriteFailed):
                log.exception("the store's thread failed unexpectedly")
        self._settle(batch, commit)

    def _settle(self, batch: list[Change], commit: asyncio.Future[None]) -> None:
        error = commit.exception()
        if error is None:
            self._publish(batch)
        else:
            self._fail(batch, error)

    def _publish(self, batch: list[Change]) -> None:
        touched: dict[str, History] = {}
        for change in batch:
            record = change.record
            if self._staged.get(record[:3]) is change:
                del self._staged[record[:3]]
            if change.previous is not None:
                self._forget(change.previous)
            if change.kind != "DELETED":
                self._insert(record)
            history = touched.get(record.resource) or touched.setdefault(record.resource, self.history(record.resource))
            history.append(change)
        self.version = batch[-1].record.version
        for change in batch:
            if change.done is not None and not change.done.done():
                change.done.set_result(None)
            change.done = None
        for history in touched.values():
            history.wake()
        for listener in self._listeners:
            listener(batch)

    def _tell_failure(self, changes: int, error: BaseException) -> None:
        """Log a failed write; repetitions of the same trouble every ten seconds only, with their number."""
        self._failures += 1
        now = time.monotonic()
        if now - self._failure_told >= FAILURE_QUIET:
            log.error(
                "store write of %d changes failed, nothing was changed: %s (%d failed writes since this was last said)",
                changes, error, self._failures,
            )  # fmt: skip
            self._failures, self._failure_told = 0, now

    def _fail(self, batch: list[Change], error: BaseException) -> None:
        doomed = batch + self._queue
        self._queue = []
        self._staged.clear()
        full = isinstance(error, WriteFailed) and error.full
        self._tell_failure(len(doomed), error)
        if full:
            status = storage_full(
                f"the cluster's store has no room left on its disk: {error}; free space and try again"
            )
        else:
            status = internal(f"the cluster's store could not be written: {error}; nothing was changed")
        for change in doomed:
            if change.done is not None and not change.done.done():
                change.done.set_exception(status)
                change.done.exception()  # nobody may be waiting any more: not an error of the loop

    # -- indexes -------------------------------------------------------------------------------------------------

    def _insert(self, record: Record) -> None:
        self._kinds.setdefault(record.resource, {}).setdefault(record.namespace, {})[record.name] = record
        self.uids[record.uid] = record[:3]
        for owner in record.owners:
            self.dependents.setdefault(owner, set()).add(record[:3])

    def _forget(self, record: Record) -> None:
        space = self._kinds[record.resource][record.namespace]
        space.pop(record.name, None)
        if not space:
            del self._kinds[record.resource][record.namespace]
        self.uids.pop(record.uid, None)
        for owner in record.owners:
            keys = self.dependents.get(owner)
            if keys is not None:
                keys.discard(record[:3])
                if not keys:
                    del self.dependents[owner]
