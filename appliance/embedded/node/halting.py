"""A pod whose processes have ended while its files are kept: how it gets there, how it stays so, how it boots again.

Asked for by the pod's annotation ``DESIRED_STATE=halted`` and reported in ``CONDITION_HALTED``. Everything that is
memory goes: processes, network namespace, control groups, memory-backed volumes. The writable layer, the volumes, the
address and the egress policy stay. The next boot is a new one for whoever is inside: it shows another ``boot_id``.

A wish is on the object, so an agent that dies in the middle is continued by its successor. One that finds a frozen
pod without its processes (the box was restarted) reports it as halted too: the memory is lost, and says so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from appliance.api import labels
from appliance.embedded.node import disk
from appliance.embedded.node.cgroups import Group
from appliance.embedded.node.containers import ContainerRunner, Means
from appliance.embedded.node.podspec import PodSpec
from appliance.embedded.node.podstatus import PodState
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.records import Record

GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL; who pauses a sandbox without its memory expects its processes to be lost."""
RELEASE = 5.0
"""Seconds for the kernel to let go of a writable image."""
WORD = "halted"
ASKED, LOST = "Halted", "MemoryLost"
"""Reasons of ``CONDITION_HALTED``: as asked, or because the processes of a frozen pod are gone."""
_TOLD = "its processes have ended, its files are kept"


class Halting:
    """Of one pod; used by its worker."""

    def __init__(
        self,
        means: Means,
        spec: PodSpec,
        record: Record,
        runners: Mapping[str, ContainerRunner],
        state: PodState,
        changed: Callable[[], None],
    ) -> None:
        self._means, self._spec, self._record = means, spec, record
        self._runners, self._state, self._changed = runners, state, changed
        self._boots: set[asyncio.Task[None]] = set()
        self.may_run = asyncio.Event()
        """Set while the pod's containers may be started."""
        self.may_run.set()

    @property
    def halted(self) -> bool:
        """Whether it is, or is about to be."""
        return not self.may_run.is_set()

    def follow(self, boot: asyncio.Task[None]) -> None:
        """A task that runs containers, to be ended by a halt."""
        self._boots.add(boot)
        boot.add_done_callback(self._boots.discard)

    async def begin(self, wish: str) -> None:
        """Before anything is started: end what an agent before this one left of a pod that shall not run."""
        known = self._record.containers
        alive = any(ProcessId(one.pid, one.start).alive() for one in known.values())
        if wish == WORD:
            await self._sweep()
            self._note(ASKED)
        elif wish == "frozen" and known and not alive:
            self._note(LOST)

    async def halt(self) -> None:
        """End every process, mains before sidecars, and wait until the files are on the disk. Raises ``OSError``."""
        if self._state.extra.get(labels.CONDITION_HALTED, (False, ""))[0]:
            return
        frozen = self._state.extra.get(labels.CONDITION_FROZEN, (False, ""))[0]
        grace = 0.0 if frozen else GRACE
        self.may_run.clear()
        for runner in self._runners.values():
            runner.halting = runner.stopping = True
        mains = [one for one in self._runners.values() if not one.container.sidecar]
        await asyncio.gather(*(one.kill(grace) for one in mains))
        await asyncio.gather(*(one.kill(grace) for one in self._runners.values() if one.container.sidecar))
        await self._end_boots()
        await self._sweep()
        await asyncio.to_thread(_settle, self._means.records.path(self._spec.uid) / "layer.ext4")
        self._note(ASKED)

    def boot(self) -> None:
        """Let it run again."""
        if not self.halted:
            return
        for runner in self._runners.values():
            runner.halting = runner.stopping = runner.done = False
        self._state.extra[labels.CONDITION_HALTED] = (False, "Booted")
        self.may_run.set()
        self._changed()

    async def _end_boots(self) -> None:
        """Containers that ran have ended; what waits for a restart, or is on its way, is not waited for."""
        if self._boots:
            await asyncio.wait(self._boots, timeout=1.0)
        for task in list(self._boots):
            task.cancel()
        await asyncio.gather(*self._boots, return_exceptions=True)

    async def _sweep(self) -> None:
        for name, known in self._record.containers.items():
            ProcessId(known.pid, known.start).kill(signal.SIGKILL)
            group = self._means.isolation.group(self._spec.uid, name)
            if group is not None:
                await asyncio.to_thread(_empty, group)

    def _note(self, reason: str) -> None:
        self.may_run.clear()
        self._record.boots += 1
        for name, runner in self._runners.items():
            known = self._record.containers.get(name)
            if known is not None and known.final_code is not None and runner.container.init:
                continue  # an init container that is done stays done
            runner.forget(ASKED, _TOLD)
        self._means.records.write(self._record)
        self._state.extra.pop(labels.CONDITION_FROZEN, None)
        self._state.extra[labels.CONDITION_HALTED] = (True, reason)
        self._changed()


def _empty(group: Group) -> None:
    group.clear()
    with suppress(OSError):
        group.remove(time.monotonic() + 2.0)


def _settle(image: Path) -> None:
    """Wait until the image is unmounted, which follows the end of the last process, and put it on the disk.

    Only then may it be mounted again, and a power cut loses nothing. Raises ``OSError`` when it stays mounted.
    """
    if not image.exists():
        return
    deadline = time.monotonic() + RELEASE
    while disk.attached(image):
        if time.monotonic() > deadline:
            raise OSError(16, f"{image} is still mounted {RELEASE:g} s after the end of its last process")
        time.sleep(0.002)
    fd = os.open(image, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
