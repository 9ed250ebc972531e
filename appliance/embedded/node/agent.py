"""The node agent's heart: pods of this node from the watch to workers, adoption of what an earlier agent left, the end.

``reconcile`` needs the whole list; single events need only themselves. A pod that is gone from the API is gone here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import suppress
from typing import Any

from appliance.embedded.node.apiclient import ApiClient, Changed, Listed
from appliance.embedded.node.cgroups import Group
from appliance.embedded.node.containers import Means
from appliance.embedded.node.isolation import SLOTS
from appliance.embedded.node.nodeobject import NodeObject
from appliance.embedded.node.pods import PodWorker
from appliance.embedded.node.podspec import BadSpec, PodSpec
from appliance.embedded.node.podstatus import stamp
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.records import Record, Slots

log = logging.getLogger(__name__)
Json = dict[str, Any]
RECORDS_RETRY = 2.0
"""Seconds between attempts to write records that did not fit on the disk."""
STOP_GRACE = 8.0
"""Seconds pods get when the whole node stops."""


class Agent:
    """All pods of the node."""

    def __init__(self, means: Means, api: ApiClient, node: NodeObject) -> None:
        self._means, self._api, self._node = means, api, node
        self.workers: dict[str, PodWorker] = {}
        self._records = means.records.load()
        self._slots = Slots(SLOTS)
        for record in self._records.values():
            self._slots.take(record.slot)
        self._endings: dict[str, asyncio.Task[None]] = {}
        self._refused: set[str] = set()

    async def run(self, node_name: str) -> None:
        """Follow the API until cancelled."""
        async for event in self._api.watch_pods(node_name):
            if isinstance(event, Listed):
                self._reconcile(event)
            else:
                self._event(event)

    async def keep_records(self) -> None:
        """Write what a full disk refused as soon as it takes it, until cancelled."""
        while True:
            await asyncio.sleep(RECORDS_RETRY)
            self._means.records.write_again()

    @property
    def has_pods(self) -> bool:
        """Whether pods live on this node, also such that no list has confirmed yet."""
        return bool(self.workers or self._records)

    def _reconcile(self, listing: Listed) -> None:
        present = {pod["metadata"]["uid"] for pod in listing.items}
        for uid in [uid for uid in self.workers if uid not in present]:
            self._gone(uid)
        for uid in [uid for uid in self._records if uid not in present and uid not in self.workers]:
            self._sweep(self._records.pop(uid))
        for pod in listing.items:
            self._event(Changed(pod, False))

    def _event(self, event: Changed) -> None:
        uid = event.item["metadata"]["uid"]
        worker = self.workers.get(uid)
        if event.deleted:
            self._refused.discard(uid)
            if worker is not None:
                self._gone(uid)
            return
        if worker is None:
            worker = self._begin(event.item)
        if worker is None:
            return
        worker.update(event.item)
        meta = event.item["metadata"]
        if meta.get("deletionTimestamp") and uid not in self._endings:
            grace = meta.get("deletionGracePeriodSeconds")
            self._end(uid, worker, worker.spec.grace if grace is None else float(grace))

    def _begin(self, pod: Json) -> PodWorker | None:
        """A worker for a new pod; None for one that has ended or can never run."""
        meta = pod["metadata"]
        uid, deleting = meta["uid"], bool(meta.get("deletionTimestamp"))
        known = self._records.pop(uid, None)
        finished = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if known is None and (deleting or finished):
            if deleting:
                self._background(f"delete {uid}", self._api.delete_pod(meta["namespace"], meta["name"], uid))
            return None
        try:
            spec = PodSpec.parse(pod)
            record = known or Record(uid, spec.namespace, spec.name, self._slots.take(), time.time())
        except (BadSpec, OverflowError, KeyError, TypeError, ValueError) as error:
            self._refuse(meta, error)
            return None
        worker = PodWorker(self._means, self._api, pod, spec, record, lambda: self._node.pressure)
        self._means.records.write(record)
        if known is None and worker.state.ignored:
            message = f"no effect on this node: {worker.state.ignored}"
            self._background("event", self._api.event(pod, "FieldsIgnored", message))
        self.workers[uid] = worker
        worker.begin()
        return worker

    def _refuse(self, meta: Json, error: Exception) -> None:
        """Fail a pod whose manifest this node cannot honour, with the reason."""
        if meta["uid"] in self._refused:
            return
        self._refused.add(meta["uid"])
        log.warning("pod %s/%s refused: %s", meta["namespace"], meta["name"], error)
        status = {"phase": "Failed", "reason": "InvalidSpec", "message": str(error), "startTime": stamp(time.time())}
        self._background("refuse", self._api.patch_status(meta["namespace"], meta["name"], status))

    def _end(self, uid: str, worker: PodWorker, grace: float) -> None:
        async def end() -> None:
            try:
                await worker.delete(grace)
            finally:
                self.workers.pop(uid, None)
                self._slots.give(worker.record.slot)
                self._endings.pop(uid, None)

        self._endings[uid] = asyncio.create_task(end())
        self._endings[uid].add_done_callback(_tell_failure)

    def _gone(self, uid: str) -> None:
        """The object vanished (deleted by force): end the pod at once."""
        if uid not in self._endings:
            self._end(uid, self.workers[uid], 0.0)

    def _background(self, name: str, work: Any) -> None:
        task = asyncio.create_task(work)
        self._endings[f"{name}-{id(task)}"] = task
        task.add_done_callback(lambda done: self._endings.pop(f"{name}-{id(done)}", None))
        task.add_done_callback(_tell_failure)

    def _sweep(self, record: Record) -> None:
        """Remove a pod that is no longer in the API and whose worker died with an earlier agent."""
        log.info("pod %s/%s is gone from the API: removed", record.namespace, record.name)
        for name, container in record.containers.items():
            ProcessId(container.pid, container.start).kill(signal.SIGKILL)
            group = self._means.isolation.group(record.uid, name)
            if group is not None:
                self._background("sweep", asyncio.to_thread(_remove, group))
        self._means.records.remove(record.uid)
        self._slots.give(record.slot)

    def sweep_groups(self) -> None:
        """Control groups of no known pod: whatever is inside is killed."""
        hierarchy = self._means.isolation.hierarchy
        if hierarchy is None:
            return
        for name in hierarchy.names():
            if name.partition(".")[0] not in self._records:
                self._background("sweep", asyncio.to_thread(_remove, hierarchy.group(name)))

    async def stop(self) -> None:
        """End every pod; their layers stay and the next agent starts them again."""
        await asyncio.gather(*self._endings.values(), return_exceptions=True)
        await asyncio.gather(*(self._stop_one(worker) for worker in self.workers.values()), return_exceptions=True)
        for uid, record in self._records.items():
            if uid not in self.workers:
                self._sweep_processes(record)
        hierarchy = self._means.isolation.hierarchy
        if hierarchy is not None:  # of pods that this agent was stopped before it adopted
            groups = [hierarchy.group(name) for name in hierarchy.names()]
            await asyncio.gather(*(asyncio.to_thread(_remove, group) for group in groups))

    def _sweep_processes(self, record: Record) -> None:
        for container in record.containers.values():
            ProcessId(container.pid, container.start).kill(signal.SIGKILL)

    async def _stop_one(self, worker: PodWorker) -> None:
        worker.record.clean_stop = True
        self._means.records.write(worker.record)
        await worker.stop(min(float(worker.spec.grace), STOP_GRACE))

    async def leave(self) -> None:
        """Let go of every pod without ending it."""
        await asyncio.gather(*(worker.abandon() for worker in self.workers.values()))


def _remove(group: Group) -> None:
    """Kill what is inside and remove the group; one that cannot be removed is left for the next start."""
    with suppress(OSError):
        group.freeze(False)
    for pid in group.pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(OSError):
        group.remove(time.monotonic() + 5.0)


def _tell_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("node task failed: %s: %s", type(error).__name__, error)
