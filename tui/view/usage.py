"""What a sandbox uses, from the files of its own control group: a command, its output as numbers, the numbers as lines.

Read inside the sandbox, so that any cluster can show it without a metrics server. Control groups of version 1 and 2 are
both understood; what cannot be read is left out, never guessed. Processor use is the difference of two readings.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tui.view.cells import Cell, Glyphs, Piece, spark, text

FILES = (
    "cpu.stat", "cpu.max", "memory.current", "memory.max",
    "cpuacct/cpuacct.usage", "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us",
    "memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes",
)  # fmt: skip
SCRIPT = (
    f"for f in {' '.join(FILES)}; do [ -r /sys/fs/cgroup/$f ] && read -r l < /sys/fs/cgroup/$f && echo $f $l; done; "
    "read -r l < /proc/uptime && echo uptime $l; set -- /proc/[0-9]*; echo processes $#; "
    "df -Pk / 2>/dev/null | while read -r l; do echo disk $l; done; :"
)
USAGE = ["/bin/sh", "-c", SCRIPT]
"""The command: shell built-ins, and ``df`` where there is one."""
UNLIMITED = 2**60
"""Limits above this are none (version 1 says so by a huge number)."""
BAR = 24
GRAPH = 40
"""Characters of a bar and of a graph."""


@dataclass(frozen=True)
class Reading:
    """One reading; None for what could not be read."""

    uptime: float
    """Seconds, of the kernel: the clock of the readings."""
    cpu: float | None
    """Seconds of processor time used so far."""
    cpu_limit: float | None
    """Cores."""
    memory: float | None
    """Bytes."""
    memory_limit: float | None
    disk: float | None
    """Bytes used in the root file system."""
    disk_size: float | None
    processes: int


def parse(output: str) -> Reading | None:
    """The numbers in the command's output; None when it is not such output."""
    found = {name: rest.split() for name, _, rest in (line.partition(" ") for line in output.splitlines())}
    if "uptime" not in found:
        return None

    def number(name: str, place: int = 0, scale: float = 1.0) -> float | None:
        try:
            return float(found[name][place]) * scale
        except (KeyError, IndexError, ValueError):
            return None

    def first(*values: float | None) -> float | None:
        return next((one for one in values if one is not None), None)

    quota = first(number("cpu.max"), number("cpu/cpu.cfs_quota_us"))
    period = first(number("cpu.max", 1), number("cpu/cpu.cfs_period_us"))
    limit = first(number("memory.max"), number("memory/memory.limit_in_bytes"))
    return Reading(
        uptime=number("uptime") or 0.0,
        cpu=first(number("cpu.stat", 1, 1e-6), number("cpuacct/cpuacct.usage", 0, 1e-9)),
        cpu_limit=quota / period if quota is not None and quota > 0 and period else None,
        memory=first(number("memory.current"), number("memory/memory.usage_in_bytes")),
        memory_limit=limit if limit is not None and limit < UNLIMITED else None,
        disk=number("disk", 2, 1024.0),
        disk_size=number("disk", 1, 1024.0),
        processes=int(number("processes") or 0),
    )


def cores(readings: Sequence[Reading]) -> list[float]:
    """Cores in use between each reading and the next."""
    return [
        max(0.0, (after.cpu - before.cpu) / (after.uptime - before.uptime))
        for before, after in pairwise(readings)
        if before.cpu is not None and after.cpu is not None and after.uptime > before.uptime
    ]


def usage_lines(readings: Sequence[Reading], glyphs: Glyphs) -> list[Cell]:
    """Processor, memory, disk and processes, with bars against their limits and graphs over the readings."""
    last = readings[-1]
    busy = cores(readings)
    rows: list[tuple[str, str, float | None, Sequence[float], float]] = []
    if last.cpu is not None:
        used = f"{busy[-1]:.2f}" if busy else "measuring"
        unit = "core" if last.cpu_limit == 1 else "cores"
        limit = f" of {last.cpu_limit:g} {unit}" if last.cpu_limit else " cores" if busy else ""
        share = busy[-1] / last.cpu_limit if busy and last.cpu_limit else None
        rows.append(("cpu", used + limit, share, busy, last.cpu_limit or 1.0))
    if last.memory is not None:
        series = [one.memory or 0.0 for one in readings]
        rows.append(("memory", *_amount(last.memory, last.memory_limit), series, last.memory_limit or 0.0))
    if last.disk is not None:
        rows.append(
            ("disk", *_amount(last.disk, last.disk_size), [one.disk or 0.0 for one in readings], last.disk_size or 0.0)
        )
    rows.append(("processes", str(last.processes), None, [float(one.processes) for one in readings], 10.0))
    lines = [_line(*row, glyphs) for row in rows]
    if last.memory is None:
        lines += [(), text(" Its control group cannot be read from inside: no processor and memory use.", "dim")]
    return [(), *lines, (), text(f" {_readings(len(readings))}, one every few seconds while this is shown", "dim")]


def _readings(count: int) -> str:
    return "1 reading" if count == 1 else f"{count} readings"


def _amount(used: float, limit: float | None) -> tuple[str, float | None]:
    return (size(used) + (f" of {size(limit)}" if limit else ""), used / limit if limit else None)


def _line(name: str, said: str, share: float | None, series: Sequence[float], top: float, glyphs: Glyphs) -> Cell:
    tone = "good" if share is None or share < 0.7 else "warn" if share < 0.9 else "bad"
    graph = spark(series, min(GRAPH, len(series)), glyphs, top)
    bar: Iterable[Piece] = ((" " * BAR, ""),)
    if share is not None:
        filled = min(BAR, round(share * BAR))
        bar = ((glyphs.full * filled, tone), (glyphs.line * (BAR - filled), "dim"))
    return ((f" {name:<10} ", "dim"), (f"{said:<26} ", ""), *bar, ("  ", ""), (graph, tone))


def size(count: float) -> str:
    """Bytes as a person reads them: ``512 KiB``, ``23.4 MiB``, ``1.5 GiB``."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}" if count < 100 * scale else f"{count / scale:.0f} {unit}"
    return f"{count / 1024:.0f} KiB"
