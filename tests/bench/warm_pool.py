"""A hundred warm sandboxes from a cold start, and what they cost.

Starts a box of its own (root), applies a pool and prints, over ``--rounds`` rounds: seconds from the start to the first
and to the last available sandbox, the processor seconds spent by everything the box started, and the memory of all its
processes as PSS (proportional set size, so that pages shared by a hundred forks count once).

    python tests/bench/warm_pool.py [--count 100] [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
from boxes import RunningBox, launch

from appliance.box.pool import manifest


def processes_of(box: RunningBox) -> list[int]:
    """Pids of the box: descendants of the supervisor, and of every process that names its data directory."""
    table = subprocess.run(["ps", "-eo", "pid=,ppid=,sid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in table.splitlines()]
    parents = {int(pid): int(ppid) for pid, ppid, _sid, *_ in rows}
    roots = {box.process.pid} | {int(row[0]) for row in rows if len(row) > 3 and str(box.data_dir) in row[3]}

    def belongs(pid: int) -> bool:
        while pid > 1:
            if pid in roots:
                return True
            pid = parents.get(pid, 0)
        return False

    return [pid for pid in parents if belongs(pid)]


def pss_mib(pids: list[int]) -> float:
    """Sum of the proportional set sizes, in MiB."""
    total = 0
    for pid in pids:
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of the processes so far."""
    ticks = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / 100


def one_round(count: int) -> dict[str, float]:
    """Start, warm, measure, stop."""
    directory = Path(tempfile.mkdtemp(prefix="appliance-bench-"))
    began = time.monotonic()
    box = launch(directory, pool=0)
    try:
        box.wait_ready()
        up = time.monotonic() - began
        applied = time.monotonic()
        target = json.dumps(manifest(count))
        kubectl = ["kubectl", "--kubeconfig", str(box.kubeconfig)]
        subprocess.run([*kubectl, "create", "-f", "-"], input=target, text=True, check=True, capture_output=True)
        first = 0.0
        while True:
            got = subprocess.run(
                [*kubectl, "get", "sbs", "code-interpreter", "-o", "jsonpath={.status.availableReplicas}"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
            if int(got or 0) > 0 and not first:
                first = time.monotonic() - applied
            if int(got or 0) >= count:
                break
            time.sleep(0.25)
        warm = time.monotonic() - applied
        pids = processes_of(box)
        return {"up": up, "first": first, "warm": warm, "cpu": cpu_seconds(pids), "pss": pss_mib(pids), "n": len(pids)}
    finally:
        box.stop()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Run the rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = [one_round(options.count) for _ in range(options.rounds)]
    print(f"{options.count} warm sandboxes, {options.rounds} rounds: min / median / max")
    units = {
        "up": "s, box start to API ready",
        "first": "s, apply to first available",
        "warm": "s, apply to all available",
        "cpu": "s CPU of all processes",
        "pss": "MiB PSS of all processes",
        "n": "processes",
    }
    for key, unit in units.items():
        values = [round_[key] for round_ in rounds]
        print(f"  {min(values):9.2f} / {statistics.median(values):9.2f} / {max(values):9.2f}  {unit}")


if __name__ == "__main__":
    main()
