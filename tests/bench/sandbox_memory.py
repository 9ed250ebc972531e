"""What a warm sandbox costs: PSS and CPU of N supervisors with server and kernel, and fork to a warm /health.

    .venv/bin/python tests/bench/sandbox_memory.py [N]

Needs root. Each sandbox gets network and pid namespaces of its own and dies with this process. Nothing is measured of
images, overlays or cgroups: this is the runtime alone, forked as the node's template does it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from appliance.runtime import supervisor
from appliance.runtime.settings import RuntimeSettings

CLONE_NEWNET, CLONE_NEWPID, CLONE_NEWNS = 0x40000000, 0x20000000, 0x00020000
LIBC = ctypes.CDLL(None, use_errno=True)


def fork_sandbox() -> int:
    """One sandbox; returns the pid of its holder, whose only child is the sandbox's pid 1."""
    pid = os.fork()
    if pid:
        return pid
    LIBC.prctl(1, int(signal.SIGKILL), 0, 0, 0)
    if LIBC.unshare(CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWNS):
        os._exit(1)
    LIBC.mount(b"none", b"/", None, 0x4000 | 0x40000, None)
    LIBC.mount(b"none", b"/run", b"tmpfs", 0, None)
    inner = os.fork()
    if inner:
        os.waitpid(inner, 0)
        os._exit(0)
    LIBC.prctl(1, int(signal.SIGKILL), 0, 0, 0)
    LIBC.mount(b"none", b"/proc", b"proc", 0, None)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return supervisor.run(RuntimeSettings(host="127.0.0.1"), None)


def children(pid: int) -> list[int]:
    """All descendants of ``pid``."""
    direct = [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*direct, *(deeper for child in direct for deeper in children(child))]


def warm(holder: int) -> bool:
    """Whether the sandbox's interpreter answers 200."""
    probe = [
        "nsenter",
        "-t",
        str(children(holder)[0]),
        "-n",
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "-m",
        "1",
    ]
    done = subprocess.run([*probe, "http://127.0.0.1:49999/health"], capture_output=True, check=False)
    return done.stdout == b"200"


def pss(pid: int) -> tuple[int, int]:
    """(PSS, private dirty) in KiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return values["Pss"], values["Private_Dirty"]


def cpu(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    began = time.perf_counter()
    supervisor.preload()
    print(f"preload {time.perf_counter() - began:.2f} s, template PSS {pss(os.getpid())[0] / 1024:.1f} MiB")
    holders, times = [], []
    began = time.perf_counter()
    for _ in range(count):
        forked = time.perf_counter()
        holder = fork_sandbox()
        holders.append(holder)
        while not (Path(f"/proc/{holder}/task/{holder}/children").read_text() and children(holder) and warm(holder)):
            time.sleep(0.005)
        times.append(time.perf_counter() - forked)
    total = time.perf_counter() - began
    report(holders, times, total)
    for holder in holders:
        os.kill(holder, signal.SIGKILL)


def report(holders: list[int], times: list[float], total: float) -> None:
    """Print the table."""
    names = ("supervisor", "server", "kernel")
    rows = [children(holder)[:3] for holder in holders]
    everything = 0.0
    for index, name in enumerate(names):
        sizes = [pss(row[index]) for row in rows]
        share = statistics.mean(size[0] for size in sizes) / 1024
        everything += share
        dirty = statistics.mean(size[1] for size in sizes) / 1024
        seconds = statistics.mean(cpu(row[index]) for row in rows)
        print(f"{name:12} PSS {share:6.1f} MiB  private dirty {dirty:6.1f} MiB  CPU {seconds * 1000:6.0f} ms")
    print(f"each sandbox PSS {everything:6.1f} MiB, {len(holders)} of them {everything * len(holders):.0f} MiB")
    print(f"fork to warm /health p50 {statistics.median(times) * 1000:.0f} ms, all in sequence {total:.1f} s")


if __name__ == "__main__":
    main()
