"""One container of a pod, from its first start to its last end: start, hooks, probes, restarts with back-off.

``ContainerRunner.run`` is one task. Cancelling it leaves the process alone (that is how an agent ends without its
sandboxes); ``terminate`` is what ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from appliance.embedded.node import unisolated
from appliance.embedded.node.egress_control import EgressControl
from appliance.embedded.node.environment import NotYet, Resolver
from appliance.embedded.node.execution import Executor
from appliance.embedded.node.isolation import Isolation
from appliance.embedded.node.podlogs import LogWriter, Pipe
from appliance.embedded.node.podspec import BadSpec, Container, PodSpec, Probe
from appliance.embedded.node.podstatus import ContainerState, Ended
from appliance.embedded.node.probing import Prober, attempt
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.records import ContainerRecord, Record, Records
from appliance.embedded.node.request import Command
from appliance.embedded.node.templateclient import TemplateClient, TemplateFailed

log = logging.getLogger(__name__)
BACKOFF_FIRST, BACKOFF_MAX, BACKOFF_RESET = 10.0, 300.0, 600.0
RETRY = 2.0
LOST = 137
"""Exit status when nobody saw the end (the template had died): as if killed."""


class ImageMissing(Exception):
    """The container must run one certain image, and this node does not have it."""


@dataclass(frozen=True)
class Means:
    """What every container of the node shares."""

    isolation: Isolation
    template: TemplateClient
    records: Records
    starts: asyncio.Semaphore
    resolv: str
    executor: Executor
    egress: EgressControl | None
    """None without isolation: nothing can be kept from anything."""


class ContainerRunner:
    """``changed`` is called after every change of ``state`` that the pod's status shows."""

    def __init__(
        self, means: Means, spec: PodSpec, container: Container, record: Record, resolver: Resolver,
        state: ContainerState, changed: Callable[[], None], frozen: Callable[[], bool],
    ) -> None:  # fmt: skip
        self.means, self.spec, self.container, self.record = means, spec, container, record
        self.state, self._resolver, self._changed, self._frozen = state, resolver, changed, frozen
        self.process: ProcessId | None = None
        self.started = asyncio.Event()
        self.stopping = False
        self.halting = False
        """The end that comes is no end for good: the pod boots again, see ``halting.py``."""
        self.done = False
        """The pod's main containers have ended: its sidecar is not started again."""
        self._cgroup = means.isolation.group(spec.uid, container.name)
        directory = means.records.path(spec.uid)
        self._log = LogWriter(directory / f"{container.name}.log")
        self._pipes = [Pipe(directory / f"{container.name}.{kind}", f"std{kind}", self._log) for kind in ("out", "err")]
        self._oom_before = 0
        self._gate, self._news = asyncio.Lock(), asyncio.Event()
        self._renewing = False
        self._ending: asyncio.Task[None] | None = None

    # Life ---------------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        """Until the container is not to be started again."""
        failures = 0
        if self._idle() or self.over():
            return
        adopted = self._adopt()
        if self.state.ended is not None:
            return
        if adopted and self.state.image != self.container.image:  # changed while no agent was looking
            self._renewing, self._ending = True, asyncio.create_task(self.kill())
        while not self.stopping and (adopted or not self.done):
            began = time.monotonic()
            if not adopted and not await self._start():
                continue
            code = await self._live(adopted)
            adopted = False
            if not self._again(code):
                return
            if self._renewing:
                self._renewing, failures = False, 0
                self.state.restarts += 1
                self.state.waiting = "ContainerCreating"
                continue
            failures = 1 if time.monotonic() - began > BACKOFF_RESET else failures + 1
            await self._back_off(failures)

    def _idle(self) -> bool:
        """A container that only places the runtime has nothing to run here: the template has it already."""
        if not self.container.places_runtime or self.means.isolation.library.resolve(self.container.image):
            return False
        now = time.time()
        if self.container.sidecar:
            self.state.running_since, self.state.started, self.state.ready = now, True, True
        else:
            self.state.ended = Ended(0, "Completed", now, now)
        self.started.set()
        self._changed()
        return True

    def over(self) -> bool:
        """Whether it ended for good under an earlier agent; the state says so then."""
        known = self.record.containers.get(self.container.name)
        if known is None or known.final_code is None or not known.final_reason:
            return False
        event = self.means.records.exited(self.spec.uid, self.container.name, known.pid, known.start)
        finished = event.at if event is not None else known.since
        self.state.ended = Ended(known.final_code, known.final_reason, known.since, finished)
        self.state.restarts, self.state.image = known.restarts, known.image
        self.started.set()
        self._changed()
        return True

    def _adopt(self) -> bool:
        """Take over the process of an earlier agent. One that ended while no agent looked is started again, which is
        counted, or its end is final, as the policy says; what the node ended with itself is always started again.
        """
        known = self.record.containers.get(self.container.name)
        if known is None:
            return False
        self.state.restarts = known.restarts
        process = ProcessId(known.pid, known.start)
        if not process.alive():
            if known.pid:
                code = 143 if self.record.clean_stop else self._exit_code(process)
                self._note_end(code, known.since)
                self.state.restarts += self.record.clean_stop or self._again(code)
            return False
        self.process = process
        self.state.running_since, self.state.started, self.state.ready = known.since, known.started, known.ready
        self._name_run(known.image or self.container.image)
        os.close(self._pipes[0].open(self._pipe_owner()))
        os.close(self._pipes[1].open(self._pipe_owner()))
        self._oom_before = 0
        if known.started:
            self.started.set()
        return True

    def _pipe_owner(self) -> int:
        owner = self.means.isolation.owner(self.record.slot)
        security = self.container.raw.get("securityContext") or {}
        return owner + int(security.get("runAsUser") or 0) if self.means.isolation.isolated else os.geteuid()

    async def _start(self) -> bool:
        """One attempt; on failure the reason is in the status and the next attempt is due after a pause."""
        try:
            async with self.means.starts, self._gate:
                if self.stopping:
                    return False
                await self._spawn()
            return True
        except ImageMissing as error:
            self._wait("ErrImageNeverPull", str(error))
        except (NotYet, BadSpec, KeyError, TypeError, ValueError) as error:
            self._wait("CreateContainerConfigError", str(error))
        except (TemplateFailed, OSError) as error:
            log.warning("pod %s/%s: %s: %s", self.spec.namespace, self.spec.name, self.container.name, error)
            self._wait("RunContainerError", str(error))
        await self._pause(RETRY)
        return False

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until there is a newer manifest."""
        self._news.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    def _wait(self, reason: str, message: str) -> None:
        if (self.state.waiting, self.state.message) != (reason, message):
            self.state.waiting, self.state.message = reason, message
            self._changed()

    async def _spawn(self) -> None:
        means, isolation = self.means, self.means.isolation
        known = self.record.containers.get(self.container.name) or ContainerRecord()
        changed = known.image not in ("", self.container.image)
        if (changed or self.spec.chosen_image == self.container.name) and (
            lack := isolation.lacks(self.container.image)
        ):
            raise ImageMissing(f"image {self.container.image!r}: {lack}")
        layer = known.layer + changed
        ip = isolation.ip(self.record.slot)
        env = await self._resolver.environment(self.container, ip, host_ip())
        mounts = await self._resolver.mounts(self.container)
        await asyncio.to_thread(isolation.prepare, self.spec, means.records.path(self.spec.uid), self.container)
        join = self._sibling()
        if not join:
            self.record.generation += 1
        exit_file = means.records.exit_file(self.spec.uid, self.container.name)
        spawn = isolation.spawn(
            self.spec, self.container, self.record, env=env, mounts=mounts, exit_file=exit_file, join=join,
            resolv=means.resolv, layer=layer,
        )  # fmt: skip
        if self.state.restarts:
            self._log.rotate()
        descriptors = [pipe.open(self._pipe_owner()) for pipe in self._pipes]
        try:
            self.process = await means.template.spawn(spawn, *descriptors)
        except BaseException:
            self._close_pipes()
            raise
        finally:
            for fd in descriptors:
                os.close(fd)
        self.state.running_since, self.state.message, self.state.waiting = time.time(), "", ""
        self._oom_before = self._cgroup.oom_kills() if self._cgroup else 0
        self._name_run(self.container.image)
        self._save(layer)
        self._changed()

    def _sibling(self) -> int:
        """Pid of a living container of this pod, whose network namespace this one joins."""
        for name, known in self.record.containers.items():
            if name != self.container.name and known.pid and ProcessId(known.pid, known.start).alive():
                return known.pid
        return 0

    def _name_run(self, image: str) -> None:
        """The process that runs now is of that image, and has the resources of the manifest."""
        process = self.process or ProcessId(0, 0)
        self.state.image, self.state.id = image, f"{self.spec.uid}.{self.container.name}.{process.pid}-{process.start}"
        self.state.resources = dict(self.container.raw.get("resources") or {}) if self._cgroup is not None else None

    async def conform(self, spec: PodSpec, container: Container) -> None:
        """A newer manifest: other limits are given to the running process, another image is started instead of it.

        Raises ``OSError`` when the limits cannot be given; everything else has happened then.
        """
        async with self._gate:
            before, self.spec, self.container = self.container, spec, container
            self._news.set()
            if self.process is None:
                return
            if container.image != self.state.image:
                self._renewing = True
                await self.kill()
            elif (container.raw.get("resources") or {}) != (before.raw.get("resources") or {}):
                await asyncio.to_thread(self.means.isolation.resize, spec, container)
                self._name_run(self.state.image)

    def _save(self, layer: int | None = None, *, counted: bool = False) -> None:
        """Write the record. A process that has ended stays in it until its restart is ``counted``, so that an agent
        after this one counts it too.
        """
        known = self.record.containers.get(self.container.name) or ContainerRecord()
        last = ProcessId(0, 0) if counted else ProcessId(known.pid, known.start)
        process = self.process or last
        ended = self.state.ended
        if ended is not None and self.stopping and not (self.container.init and ended.code == 0):
            ended = None  # by the node, which starts it again
        self.record.containers[self.container.name] = ContainerRecord(
            process.pid, process.start, self.state.running_since or known.since, self.state.restarts,
            self.state.started, self.state.ready, ended.code if ended else None,
            ended.reason if ended else "", self.state.image or known.image, known.layer if layer is None else layer,
        )  # fmt: skip
        self.means.records.write(self.record)

    # While it runs ------------------------------------------------------------------------------------------------
    async def _live(self, adopted: bool) -> int:
        """From a running process to its exit status."""
        assert self.process is not None
        care = asyncio.create_task(self._care(adopted))
        try:
            await exited(self.process)
        finally:
            care.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await care
            self._close_pipes()
        code = await self._await_exit_code(self.process)
        self._note_end(code, self.state.running_since or time.time())
        return code

    def _close_pipes(self) -> None:
        for pipe in self._pipes:
            pipe.close()

    async def _care(self, adopted: bool) -> None:
        """Hook, startup, then readiness and liveness until cancelled."""
        hook = self.container.chained_hook()
        if hook and not adopted and await self._exec(hook, self.spec.grace or 30) != 0:
            log.warning(
                "pod %s/%s: postStart hook of %s failed", self.spec.namespace, self.spec.name, self.container.name
            )
            await self.kill()
            return
        if not self.state.started and not await self._startup():
            log.warning(
                "pod %s/%s: startup probe of %s failed", self.spec.namespace, self.spec.name, self.container.name
            )
            await self.kill()
            return
        self.state.started = True
        if self.container.readiness is None:
            self.state.ready = True
        self.started.set()
        self._save()
        self._changed()
        await asyncio.gather(self._readiness(), self._liveness())

    async def _startup(self) -> bool:
        if self.container.startup is None:
            return True
        return await self._prober(self.container.startup, once=True).run(lambda ok: None)

    async def _readiness(self) -> None:
        if self.container.readiness is not None:
            await self._prober(self.container.readiness).run(self._set_ready)

    def _set_ready(self, ok: bool) -> None:
        if self.state.ready != ok:
            self.state.ready = ok
            self._save()
            self._changed()

    async def _liveness(self) -> None:
        if self.container.liveness is None:
            return
        verdict: asyncio.Event = asyncio.Event()
        prober = asyncio.create_task(
            self._prober(self.container.liveness).run(lambda ok: None if ok else verdict.set())
        )
        try:
            await verdict.wait()
        finally:
            prober.cancel()
        log.warning("pod %s/%s: liveness probe of %s failed", self.spec.namespace, self.spec.name, self.container.name)
        await self.kill(self.container.liveness.grace)

    def _prober(self, probe: Probe, once: bool = False) -> Prober:
        ip = self.means.isolation.ip(self.record.slot)
        names = {str(p.get("name")): int(p["containerPort"]) for p in self.container.raw.get("ports") or []}
        return Prober(probe, once, lambda p: attempt(p, ip, self._exec, names), self._frozen)

    async def _exec(self, argv: list[str], timeout: float) -> int:
        """Exit status of a command inside; 124 when it took too long, 126 when it could not be started."""
        if self.process is None:
            return 126
        return await self.means.executor.status(self.process, self._cgroup, self.command(argv), timeout)

    def command(self, argv: list[str]) -> Command:
        """A program as the container's own would run: same user, directory and environment."""
        image = self.means.isolation.library.resolve(self.container.image) if self.means.isolation.isolated else None
        env = self.means.isolation.surroundings(self.spec, image) | self._plain_env()
        own = self.means.isolation.command(self.container, image, env)
        if own is None:
            return Command(tuple(argv), env)
        return Command(tuple(argv), env, own.cwd, own.user, own.uid, own.gid)

    def _plain_env(self) -> dict[str, str]:
        return {str(e["name"]): str(e["value"]) for e in self.container.raw.get("env") or [] if "value" in e}

    # The end ------------------------------------------------------------------------------------------------------
    async def kill(self, grace: float | None = None) -> None:
        """preStop, SIGTERM, SIGKILL after ``grace`` seconds (default: the pod's). Returns when the process is gone."""
        process = self.process
        if process is None or not process.alive():
            return
        grace = float(self.spec.grace if grace is None else grace)
        deadline = time.monotonic() + grace
        family = await asyncio.to_thread(self._thaw, process)
        hook = self.container.hook("preStop")
        if hook and grace > 0:
            await self._exec(hook, grace)
        process.kill(signal.SIGTERM)
        try:
            await asyncio.wait_for(exited(process), max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            process.kill(signal.SIGKILL)
            await exited(process)
        for orphan in family:
            orphan.kill(signal.SIGKILL)

    def _thaw(self, process: ProcessId) -> list[ProcessId]:
        """Let a paused container hear its end; returns the processes that no namespace or group will end with it."""
        if self._cgroup is None:
            unisolated.freeze(process, False)
            return unisolated.tree(process)
        with suppress(OSError):
            self._cgroup.freeze(False)
        return []

    def _exit_code(self, process: ProcessId) -> int:
        event = self.means.records.exited(self.spec.uid, self.container.name, process.pid, process.start)
        return LOST if event is None else event.code

    async def _await_exit_code(self, process: ProcessId) -> int:
        for _ in range(100):
            event = self.means.records.exited(self.spec.uid, self.container.name, process.pid, process.start)
            if event is not None:
                return event.code
            await asyncio.sleep(0.01)
        return LOST

    def _note_end(self, code: int, since: float) -> None:
        killed = self._cgroup is not None and self._cgroup.oom_kills() > self._oom_before and code == 137
        reason = "OOMKilled" if killed else "Completed" if code == 0 else "Error"
        self.state.last = Ended(code, reason, since, time.time())
        self.state.running_since, self.state.started, self.state.ready = None, False, False
        self.process = None

    def _again(self, code: int) -> bool:
        """Whether to start once more; otherwise the end is final."""
        policy = "Always" if self.container.sidecar else self.spec.restart
        if self.container.init and not self.container.sidecar:
            policy = "OnFailure" if policy != "Never" else "Never"
        again = not (self.stopping or self.done) and (
            self._renewing or policy == "Always" or (policy == "OnFailure" and code != 0)
        )
        if not again and not self.halting:
            self.state.ended, self.state.last = self.state.last, None
            self.started.set()
        self._save()
        self._changed()
        return again

    def forget(self, waiting: str, message: str) -> None:
        """The container's process is gone with its pod's memory: the next start is another run of it."""
        known = self.record.containers.get(self.container.name)
        self.state.restarts = max(self.state.restarts, known.restarts if known else 0) + 1
        self.state.running_since, self.state.started, self.state.ready = None, False, False
        self.state.waiting, self.state.message, self.state.ended = waiting, message, None
        self.process = None
        self.started.clear()
        self._save(counted=True)

    async def _back_off(self, failures: int) -> None:
        self.state.restarts += 1
        delay = 0.0 if failures <= 1 else min(BACKOFF_MAX, BACKOFF_FIRST * 2 ** (failures - 2))
        self.state.waiting = "CrashLoopBackOff" if delay else "ContainerCreating"
        self.state.message = f"back-off {delay:.0f}s restarting failed container" if delay else ""
        if delay:
            self._changed()
            await self._pause(delay)


async def exited(process: ProcessId) -> None:
    """Returns once that process has ended."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if not process.alive():
            return
        loop = asyncio.get_running_loop()
        gone = loop.create_future()
        loop.add_reader(fd, lambda: None if gone.done() else gone.set_result(None))
        try:
            await gone
        finally:
            loop.remove_reader(fd)
    finally:
        os.close(fd)


def host_ip() -> str:
    """The box's address by which it reaches the outside; loopback when there is none."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # a documentation address: nothing is sent
        return str(probe.getsockname()[0])
    return "127.0.0.1"


def nameservers(text: str) -> list[str]:
    """The servers that a resolv.conf names."""
    words = (line.split() for line in text.splitlines())
    return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]


BEHIND_LOOPBACK = Path("/run/systemd/resolve/resolv.conf")
"""Where systemd-resolved, which listens on loopback, writes the servers that it asks itself."""


def resolv_conf(paths: tuple[Path, ...] = (Path("/etc/resolv.conf"), BEHIND_LOOPBACK)) -> str:
    """Name servers of the box that a pod can reach; one on the box's loopback is not among them."""
    for path in paths:
        with suppress(OSError):
            lines = [line for line in path.read_text().splitlines() if line.split("#")[0].strip()]
            kept = [line for line in lines if not line.startswith(("nameserver 127.", "nameserver ::1"))]
            if any(line.startswith("nameserver") for line in kept):
                return "\n".join(kept) + "\n"
    return ""
