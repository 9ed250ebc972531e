"""The node's control groups: made before the kubelet looks for them, removed when everything in them is dead."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path


def hierarchies() -> Iterator[Path]:
    """Mount points of every cgroup hierarchy of the machine."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            yield Path(place)


def make(name: str) -> None:
    """One group per hierarchy; cpuset's must name processors before anything can enter it."""
    for place in hierarchies():
        group = place / name
        group.mkdir(exist_ok=True)
        for file in ("cpuset.cpus", "cpuset.mems"):
            if (place / file).exists() and (group / file).exists():
                (group / file).write_text((place / file).read_text())


def remove(name: str) -> None:
    """All of them, deepest first; a killed process leaves its group a moment after its end, hence the retries."""
    for place in hierarchies():
        group = place / name
        deadline = time.monotonic() + 10
        while group.exists():
            try:
                for directory, _, _ in os.walk(group, topdown=False):
                    os.rmdir(directory)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
