"""``GET /metrics``: processor, memory and disk of the sandbox.

The sandbox's own cgroup counts where it is visible; else the whole machine's ``/proc`` does (a sandbox that is a
virtual machine). Processor use is the share of the allowed processors since the previous reading, so reading costs
nothing between readings.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

_MIB = 1024 * 1024
_UNLIMITED = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


class Metrics:
    """Readings of one sandbox. ``cgroup`` and ``proc`` are parameters for tests."""

    def __init__(self, cgroup: Path = Path("/sys/fs/cgroup"), proc: Path = Path("/proc")) -> None:
        self._cgroup = cgroup
        self._proc = proc
        self._last = (time.monotonic(), self._busy_seconds())

    def read(self) -> dict[str, float | int]:
        """One reading in the API's fields; bytes unless the name says MiB."""
        cpus = self._cpu_count()
        total, used, cache = self._memory()
        disk = os.statvfs("/")
        return {
            "ts": int(time.time()),
            "cpu_count": cpus,
            "cpu_used_pct": self._used_percent(cpus),
            "mem_total": total,
            "mem_used": used,
            "mem_cache": cache,
            "mem_total_mib": total // _MIB,
            "mem_used_mib": used // _MIB,
            "disk_used": (disk.f_blocks - disk.f_bfree) * disk.f_frsize,
            "disk_total": disk.f_blocks * disk.f_frsize,
        }

    def _used_percent(self, cpus: int) -> float:
        now, busy = time.monotonic(), self._busy_seconds()
        elapsed, spent = now - self._last[0], busy - self._last[1]
        self._last = (now, busy)
        return round(max(0.0, min(100.0, 100 * spent / (elapsed * cpus))), 2) if elapsed > 0.001 else 0.0

    def _cpu_count(self) -> int:
        limit = self._text("cpu.max").split()
        if len(limit) == 2 and limit[0] != "max":
            return max(1, -(-int(limit[0]) // int(limit[1])))
        quota, period = self._text("cpu/cpu.cfs_quota_us"), self._text("cpu/cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            return max(1, -(-int(quota) // int(period)))
        return len(os.sched_getaffinity(0))

    def _busy_seconds(self) -> float:
        usage = _table(self._text("cpu.stat")).get("usage_usec")
        if usage is not None:
            return usage / 1e6
        if v1 := self._text("cpuacct/cpuacct.usage"):
            return int(v1) / 1e9
        fields = [int(word) for word in (self._proc / "stat").read_text().split("\n", 1)[0].split()[1:9]]
        return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")  # all but idle and iowait

    def _memory(self) -> tuple[int, int, int]:
        """Total, used without cache, cache."""
        machine = {name: size * 1024 for name, size in _table((self._proc / "meminfo").read_text()).items()}
        limit = self._text("memory.max") or self._text("memory/memory.limit_in_bytes")
        current = self._text("memory.current") or self._text("memory/memory.usage_in_bytes")
        total = machine["MemTotal:"]
        if limit.isdigit() and int(limit) < _UNLIMITED and current:
            stat = _table(self._text("memory.stat") or self._text("memory/memory.stat"))
            cache = stat.get("file", stat.get("total_cache", 0))
            return min(int(limit), total), max(0, int(current) - cache), cache
        cache = machine.get("Cached:", 0)
        return total, max(0, total - machine.get("MemFree:", 0) - cache - machine.get("Buffers:", 0)), cache

    def _text(self, name: str) -> str:
        try:
            return (self._cgroup / name).read_text().strip()
        except OSError:
            return ""


def _table(text: str) -> dict[str, int]:
    """``name value [unit]`` lines."""
    rows = (line.split() for line in text.splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) >= 2 and row[1].isdigit()}
