"""Limits, out-of-memory counts and freezing of one container by control groups, version 1 and version 2.

A ``Hierarchy`` is where the box's controllers are; a ``Group`` is one container's directory in each of them. The
container's first process puts itself in (``enter``) before it runs anything of the user's, so nothing escapes.
Requests become CPU shares (weight under contention), never reservations; limits become quotas that the kernel
enforces.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("cpu", "memory", "pids", "freezer")
ACCOUNTING = "cpuacct"
"""Version 1 counts CPU time in a controller of its own; without it only the figures of metrics are coarser."""
PERIOD = 100_000
"""Microseconds of one CPU quota period."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one container may use. None: unlimited."""

    cpu: float | None
    """Cores."""
    cpu_request: float
    """Cores; the weight under contention."""
    memory: int | None
    """Bytes."""
    pids: int | None


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where each controller's group directories live. ``unified`` tells version 2."""

    unified: bool
    roots: tuple[tuple[str, str], ...]
    """(controller, directory below which our groups are made)."""

    @classmethod
    def find(cls, mounts: str, name: str) -> Hierarchy:
        """From the text of /proc/self/mountinfo; ``name``: our top directory. Raises ``OSError``: what is missing."""
        one: dict[str, str] = {}
        two = ""
        for line in mounts.splitlines():
            left, _, right = line.partition(" - ")
            fstype, _, options = right.split(" ", 2)
            if fstype == "cgroup":
                known = (*CONTROLLERS, ACCOUNTING)
                one.update({option: left.split(" ")[4] for option in options.split(",") if option in known})
            elif fstype == "cgroup2":
                two = two or left.split(" ")[4]
        if one.keys() >= set(CONTROLLERS):
            return cls(False, tuple((controller, f"{path}/{name}") for controller, path in one.items()))
        if two and not one:
            return cls(True, tuple((controller, f"{two}/{name}") for controller in CONTROLLERS))
        raise OSError(2, f"control groups: found {sorted(one) or 'none'}, need {', '.join(CONTROLLERS)}")

    def prepare(self) -> None:
        """Make our top directories. Raises ``OSError`` where that is not allowed."""
        for directory in dict(self.roots).values():
            os.makedirs(directory, exist_ok=True)
            if self.unified:
                for level in (Path(directory).parent, Path(directory)):
                    (level / "cgroup.subtree_control").write_text("+cpu +memory +pids")
            elif "/memory/" in directory:
                _write(f"{directory}/memory.use_hierarchy", "1", optional=True)

    def group(self, name: str) -> Group:
        """The group of one container; nothing is created yet."""
        return Group(self.unified, {controller: f"{root}/{name}" for controller, root in self.roots})

    def names(self) -> set[str]:
        """Groups that exist now."""
        found: set[str] = set()
        for root in {root for _, root in self.roots}:
            with suppress(FileNotFoundError):
                found.update(entry.name for entry in os.scandir(root) if entry.is_dir())
        return found

    def remove(self) -> None:
        """Remove our top directories, once they are empty."""
        for directory in {root for _, root in self.roots}:
            with suppress(OSError):
                os.rmdir(directory)


@dataclass(frozen=True, slots=True)
class Group:
    """One container's group in every controller."""

    unified: bool
    paths: dict[str, str]

    def create(self, limits: Limits) -> None:
        """Make the directories and write the limits."""
        for path in set(self.paths.values()):
            os.makedirs(path, exist_ok=True)
        settings = self._settings_two(limits) if self.unified else self._settings_one(limits)
        self._put(settings)

    def change(self, limits: Limits) -> None:
        """Other limits for what runs inside; memory first, so that a refusal changes nothing.

        Raises ``OSError``: EBUSY when more memory is in use than it may have from now on.
        """
        if self.unified and limits.memory is not None and (used := self._memory_used()) > limits.memory:
            raise OSError(16, f"{used} bytes of memory are in use, more than the new limit of {limits.memory}")
        settings = list(self._settings_two(limits) if self.unified else self._settings_one(limits))
        memory = [one for one in settings if one[0] == "memory"]
        try:
            self._put(memory)
        except OSError as error:
            if error.errno != 22:
                raise
            self._put(reversed(memory))  # version 1: the limit that counts swap must not be the smaller one meanwhile
        self._put(one for one in settings if one[0] != "memory")

    def _put(self, settings: Iterable[tuple[str, str, str, bool]]) -> None:
        for controller, name, value, optional in settings:
            _write(f"{self.paths[controller]}/{name}", value, optional=optional)

    def _memory_used(self) -> int:
        return int(Path(self.paths["memory"], "memory.current").read_text())

    @staticmethod
    def _settings_one(limits: Limits) -> Iterator[tuple[str, str, str, bool]]:
        quota = -1 if limits.cpu is None else max(1000, round(limits.cpu * PERIOD))
        yield "cpu", "cpu.cfs_quota_us", str(quota), False
        yield "cpu", "cpu.shares", str(max(2, round(limits.cpu_request * 1024))), False
        memory = str(limits.memory or -1)
        yield "memory", "memory.limit_in_bytes", memory, False
        yield "memory", "memory.memsw.limit_in_bytes", memory, True  # only where the kernel counts swap
        yield "pids", "pids.max", str(limits.pids or "max"), False

    @staticmethod
    def _settings_two(limits: Limits) -> Iterator[tuple[str, str, str, bool]]:
        quota = "max" if limits.cpu is None else str(max(1000, round(limits.cpu * PERIOD)))
        yield "cpu", "cpu.max", f"{quota} {PERIOD}", False
        yield "cpu", "cpu.weight", str(max(1, min(10_000, round(limits.cpu_request * 100)))), False
        yield "memory", "memory.max", str(limits.memory or "max"), False
        yield "memory", "memory.swap.max", "0", True
        yield "pids", "pids.max", str(limits.pids or "max"), False

    def figures(self) -> dict[str, str]:
        """Where the container's own limits and usage can be read: path below /sys/fs/cgroup inside → directory."""
        if self.unified:
            return {"": self.paths["memory"]}
        return {name: self.paths[name] for name in ("cpu", ACCOUNTING, "memory") if name in self.paths}

    def enter(self) -> None:
        """Move the calling process in, with its future children."""
        for path in set(self.paths.values()):
            _write(f"{path}/cgroup.procs", "0")

    def pids(self) -> list[int]:
        """Processes inside, ids as the box sees them."""
        found: set[int] = set()
        for path in set(self.paths.values()):
            with suppress(FileNotFoundError), open(f"{path}/cgroup.procs") as file:
                found.update(int(line) for line in file if line.strip() != "0")
        return sorted(found)

    def clear(self) -> None:
        """Kill what an agent that died while starting the container left inside, and wait until it is gone."""
        deadline = time.monotonic() + 5.0
        while pids := self.pids():
            self.freeze(False)
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise OSError(16, f"processes of an earlier start do not end: {pids[:5]}")
            time.sleep(0.005)

    def oom_kills(self) -> int:
        """Processes the kernel killed here for memory so far."""
        name = "memory.events" if self.unified else "memory.oom_control"
        try:
            with open(f"{self.paths['memory']}/{name}") as file:
                counts = dict(line.split(maxsplit=1) for line in file if " " in line)
        except FileNotFoundError:
            return 0
        return int(counts.get("oom_kill", "0"))

    def freeze(self, frozen: bool) -> None:
        """Ask the kernel to stop (or go on with) every process inside; see ``frozen`` for when it is done."""
        if self.unified:
            _write(f"{self.paths['freezer']}/cgroup.freeze", "1" if frozen else "0")
        else:
            _write(f"{self.paths['freezer']}/freezer.state", "FROZEN" if frozen else "THAWED")

    def frozen(self) -> bool:
        """Whether every process inside is stopped."""
        path = self.paths["freezer"]
        if self.unified:
            return "frozen 1" in Path(path, "cgroup.events").read_text().splitlines()
        return Path(path, "freezer.state").read_text().strip() == "FROZEN"

    def remove(self, deadline: float) -> None:
        """Remove the directories, waiting until the monotonic ``deadline`` for dying processes. Raises ``OSError``."""
        for path in set(self.paths.values()):
            while True:
                try:
                    os.rmdir(path)
                except FileNotFoundError:
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.005)


def _write(path: str, value: str, *, optional: bool = False) -> None:
    try:
        fd = os.open(path, os.O_WRONLY)
    except FileNotFoundError:
        if optional:
            return
        raise
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
