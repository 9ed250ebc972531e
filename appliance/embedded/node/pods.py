"""One pod on this node: init containers in order, then the others; status; freezing and network; the end.

``PodWorker`` is driven from outside by ``update`` (a newer object) and ``stop``/``abandon``; everything else is its
own task.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp

from appliance.api import labels
from appliance.api.egress import UNENFORCEABLE, Egress, egress_of, reason
from appliance.embedded.node import unisolated
from appliance.embedded.node.apiclient import ApiClient, ApiRefused
from appliance.embedded.node.containers import ContainerRunner, Means, host_ip
from appliance.embedded.node.environment import Resolver
from appliance.embedded.node.halting import WORD, Halting
from appliance.embedded.node.header_rules import RulesMissing, RulesReader
from appliance.embedded.node.podspec import PodSpec
from appliance.embedded.node.podstatus import ContainerState, Ended, PodState
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.records import Record
from appliance.embedded.node.unhonoured import unhonoured

log = logging.getLogger(__name__)
Json = dict[str, Any]
DEBOUNCE = 0.02
"""Seconds that changes are gathered before a status is written."""
YOUTH = 1.0
"""Seconds in which a pod that is on its way writes nothing: most are Ready by then, with one write instead of three."""
FREEZE_TIMEOUT = 10.0
RESIZING = "PodResizeInProgress"
"""Kubernetes' condition of a pod whose new resources are not in force."""


class PodWorker:
    """``begin`` starts it. ``pressure()`` names a shortage of the box that new pods wait for, or is empty."""

    def __init__(
        self, means: Means, api: ApiClient, pod: Json, spec: PodSpec, record: Record, pressure: Callable[[], str]
    ):
        self._means, self._api, self.pod, self.spec, self.record = means, api, pod, spec, record
        self._pressure = pressure
        self.state = PodState({c.name: ContainerState() for c in spec.all}, start_time=record.start_time)
        self.state.ignored = ", ".join(unhonoured(pod))
        self.state.ip, self.state.host_ip = means.isolation.ip(record.slot), host_ip()
        directory = means.records.path(spec.uid) / "volumes"
        claims = means.isolation.settings.data_dir / "node" / "volumes"
        resolver = Resolver(api, pod, spec, directory, claims)
        self.runners = {
            c.name: ContainerRunner(
                means, spec, c, record, resolver, self.state.containers[c.name], self.changed, lambda: self._frozen
            )
            for c in spec.all
        }
        self._dirty, self._wanted = asyncio.Event(), asyncio.Event()
        self._halting = Halting(means, spec, record, self.runners, self.state, self.changed)
        self._frozen, self._born = False, time.monotonic()
        self._egress: Egress | None = None
        self._rules = RulesReader(api, spec.namespace, spec.name)
        self._policy = asyncio.Lock()
        """Held while a policy is put in force, so that an older one never comes after a newer."""
        self._written: Json = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: asyncio.Task[None] | None = None

    # From outside -------------------------------------------------------------------------------------------------
    def begin(self) -> None:
        """Start running the pod."""
        for work in (self._run, self._write_statuses, self._apply_wishes):
            self._spawn(work())
        self.update(self.pod)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("pod %s/%s: %s", self.spec.namespace, self.spec.name, error, exc_info=error)

    def update(self, pod: Json) -> None:
        """A newer state of the object."""
        self.pod = pod
        self._wanted.set()

    def changed(self) -> None:
        """The status is to be written."""
        self._dirty.set()

    async def delete(self, grace: float) -> None:
        """End the pod and forget it: processes, layer, groups; the object last. A failed removal is tried again."""
        await self.stop(grace)
        self._means.records.remove(self.spec.uid)
        delay = 0.1
        while True:
            try:
                await self._api.delete_pod(self.spec.namespace, self.spec.name, self.spec.uid)
                return
            except (ApiRefused, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.warning("pod %s/%s: could not remove the object: %s", self.spec.namespace, self.spec.name, error)
                await asyncio.sleep(delay)
                delay = min(5.0, delay * 2)

    async def stop(self, grace: float) -> None:
        """End all processes (mains first, sidecars after them) and remove the control groups; the layer stays."""
        for runner in self.runners.values():
            runner.stopping = True
        mains = [r for r in self.runners.values() if not r.container.sidecar]
        await asyncio.gather(*(runner.kill(grace) for runner in mains))
        await asyncio.gather(*(r.kill(grace) for r in self.runners.values() if r.container.sidecar))
        await self.abandon()
        if self._egress is not None and self._means.egress is not None:
            with suppress(OSError):
                await self._means.egress.release(self.state.ip)
        for name in self.runners:
            group = self._means.isolation.group(self.spec.uid, name)
            if group is not None:
                with suppress(OSError):
                    await asyncio.to_thread(group.remove, time.monotonic() + 5.0)

    async def abandon(self) -> None:
        """Stop looking after the pod; its processes go on."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Running ------------------------------------------------------------------------------------------------------
    async def _run(self) -> None:
        await self._cut_off()
        await self._room()
        await self._halting.begin(self._wish())
        while True:
            await self._halting.may_run.wait()
            boot = asyncio.create_task(self._boot())
            self._halting.follow(boot)
            try:
                await asyncio.wait([boot])
            finally:
                boot.cancel()
            if not self._halting.halted:
                return boot.result()

    async def _boot(self) -> None:
        mains = [self.runners[container.name] for container in self.spec.containers]
        if sum(main.over() for main in mains) == len(mains):  # each is asked, for its state
            await self._stay_ended()
            return
        for container in self.spec.init:
            runner = self.runners[container.name]
            if container.sidecar:
                self._halting.follow(self._spawn(runner.run()))
                await runner.started.wait()
                continue
            known = self.record.containers.get(container.name)
            if known is not None and known.final_code == 0:
                runner.state.ended = Ended(0, "Completed", known.since, known.since)
            else:
                await runner.run()
            ended = runner.state.ended
            if ended is None or ended.code != 0:
                self.changed()
                return
        self.record.clean_stop = False
        await asyncio.gather(*(main.run() for main in mains))
        sidecars = [runner for runner in self.runners.values() if runner.container.sidecar]
        for runner in sidecars:
            runner.done = True
        await asyncio.gather(*(runner.kill() for runner in sidecars))

    async def _stay_ended(self) -> None:
        """A pod that ended under an agent before this one runs nothing again, and nothing of it goes on."""
        for container in self.spec.init:
            runner, known = self.runners[container.name], self.record.containers.get(container.name)
            if runner.over() or known is None:
                continue
            ProcessId(known.pid, known.start).kill(signal.SIGKILL)
            runner.done = True
            await runner.run()

    async def _cut_off(self) -> None:
        """A pod that may not reach the outside is cut off before its first process exists."""
        while True:
            try:
                await self._apply_network()
                return
            except RulesMissing:
                return  # they change what is allowed anyway; they are looked for again, and waited for by their owner
            except OSError as error:
                log.error("pod %s/%s waits for its network: %s", self.spec.namespace, self.spec.name, error)
                await asyncio.sleep(1.0)

    async def _room(self) -> None:
        """Wait while the box is short of disk or memory, unless the pod runs already."""
        while not self.record.containers and (reason := self._pressure()):
            for state in self.state.containers.values():
                state.waiting, state.message = "NodeUnderPressure", reason
            self.changed()
            await asyncio.sleep(2.0)
        for state in self.state.containers.values():
            state.waiting, state.message = "ContainerCreating", ""

    # Wishes of the control plane ----------------------------------------------------------------------------------
    async def _apply_wishes(self) -> None:
        """Freeze, halt and network, whenever the object changes."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._apply_network()
                await self._apply_state()
                await self._apply_changes()
            except OSError as error:
                log.error("pod %s/%s: %s", self.spec.namespace, self.spec.name, error)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wanted.wait(), 1.0)
                self._wanted.set()

    async def _apply_changes(self) -> None:
        """Images and limits of the newest manifest; limits that cannot be given are told in the pod's conditions."""
        pod = self.pod
        spec, trouble = PodSpec.parse(pod), ""
        if spec != self.spec:
            self.spec = spec
            for container in spec.all:
                try:
                    await self.runners[container.name].conform(spec, container)
                except OSError as error:
                    trouble = f"container {container.name}: {error.strerror or error}"
            self._tell_resize(trouble)
        if self.state.generation != (generation := int(pod["metadata"].get("generation") or 0)):
            self.state.generation = generation
            self.changed()

    def _tell_resize(self, trouble: str) -> None:
        self.state.extra.pop(RESIZING, None)
        if trouble:
            self.state.extra[RESIZING] = (True, "Error")
            self.state.messages[RESIZING] = trouble
        self.changed()

    async def _apply_network(self) -> None:
        async with self._policy:
            meta = self.pod["metadata"]
            wanted = egress_of(meta.get("labels") or {}, meta.get("annotations") or {})
            if wanted == self._egress:
                return
            if self._means.egress is None:
                self._confess(wanted)
                return
            try:
                rules = await self._rules.of(wanted)
            except RulesMissing:
                await self._means.egress.apply(self.state.ip, wanted)
                raise
            await self._means.egress.apply(self.state.ip, wanted, rules)
            self._egress = wanted
        self.state.extra[labels.CONDITION_NETWORK] = (True, reason(wanted))
        if wanted or self._written:
            self.changed()

    def _confess(self, wanted: Egress) -> None:
        """Without isolation a policy is refused, not forgotten: whoever waits for it is told at once."""
        self._egress = wanted
        if wanted or labels.CONDITION_NETWORK in self.state.extra:
            why = UNENFORCEABLE if wanted else reason(wanted)
            self.state.extra[labels.CONDITION_NETWORK] = (not wanted, why)
            text = "this box was started with --isolation=process, which isolates nothing" if wanted else ""
            self.state.messages[labels.CONDITION_NETWORK] = text
            self.changed()

    def _wish(self) -> str:
        return str((self.pod["metadata"].get("annotations") or {}).get(labels.DESIRED_STATE, ""))

    async def _apply_state(self) -> None:
        wish = self._wish()
        if wish == WORD and self._means.isolation.isolated:
            await self._halting.halt()
            self._frozen = False
            return
        if wish == "running":
            self._halting.boot()
        if not self._halting.halted:
            await self._apply_freeze(wish)

    async def _apply_freeze(self, wish: str) -> None:
        known = self.state.extra.get(labels.CONDITION_FROZEN)
        if wish not in ("frozen", "running"):
            return
        frozen = wish == "frozen"
        if known is not None and known[0] == frozen:
            return
        if known is None and not frozen and not self._written:
            return
        self._frozen = True  # no probe may fail for being half frozen
        await asyncio.to_thread(self._freeze, frozen)
        self._frozen = frozen
        self.state.extra[labels.CONDITION_FROZEN] = (frozen, "Frozen" if frozen else "Thawed")
        self.changed()

    def _freeze(self, frozen: bool) -> None:
        """All groups, and wait until the kernel says so. Raises ``OSError`` when it does not in time."""
        if self._means.isolation.hierarchy is None:
            for process in [runner.process for runner in self.runners.values() if runner.process]:
                unisolated.freeze(process, frozen)
            return
        groups = [self._means.isolation.group(self.spec.uid, n) for n, r in self.runners.items() if r.process]
        for group in groups:
            if group is not None:
                group.freeze(frozen)
        deadline = time.monotonic() + FREEZE_TIMEOUT
        while any(group is not None and group.frozen() != frozen for group in groups):
            if time.monotonic() > deadline:
                raise OSError(110, f"processes are not {'frozen' if frozen else 'thawed'} after {FREEZE_TIMEOUT:.0f} s")
            time.sleep(0.002)

    # Status -------------------------------------------------------------------------------------------------------
    async def _write_statuses(self) -> None:
        delay = DEBOUNCE
        while True:
            await self._dirty.wait()
            await asyncio.sleep(delay)
            self._dirty.clear()
            status = self.state.status(self.spec, time.time())
            while on_its_way(status) and (left := self._born + YOUTH - time.monotonic()) > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._dirty.wait(), left)
                await asyncio.sleep(DEBOUNCE)
                self._dirty.clear()
                status = self.state.status(self.spec, time.time())
            if status == self._written:
                continue
            try:
                await self._api.patch_status(self.spec.namespace, self.spec.name, status)
                self._written, delay = status, DEBOUNCE
            except ApiRefused as error:
                if error.status != 404:  # deleted meanwhile: the watch will tell
                    log.warning("pod %s/%s: status refused: %s", self.spec.namespace, self.spec.name, error)
                    self._dirty.set()
                    delay = min(5.0, delay * 2)
            except (aiohttp.ClientError, TimeoutError, OSError):
                self._dirty.set()
                delay = min(5.0, delay * 2)


def on_its_way(status: Json) -> bool:
    """Whether a pod's status only says that it is starting, and nothing of it has failed or was restarted."""
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions", ()))
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    waiting = [item["state"].get("waiting", {}) for item in containers]
    troubled = any(one.get("message") for one in waiting) or any(item.get("restartCount") for item in containers)
    ended = any("terminated" in item["state"] for item in status.get("containerStatuses", ()))
    return status.get("phase") in ("Pending", "Running") and not (ready or troubled or ended)
