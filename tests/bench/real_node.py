"""Create → first command on a real Kubernetes node, with the unmodified SDK: ``python tests/bench/real_node.py``.

Runs on the node of ``packaging/cluster.sh up`` (APPLIANCE_CLUSTER_DIR), from inside its network, through the managers'
Service. Prints the seconds of a create, of the first command after it, and of both, from a warm pool and, with the pool
empty, with a pod made for it; and what a pool member costs from its Sandbox to ready, by the objects' own time stamps.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]

from realnode import roles
from realnode.__main__ import ROOT

TEMPLATE = "code-interpreter"


def measure(count: int) -> None:
    """The inner part, run in the node's network: one line per create."""
    from e2b_code_interpreter import Sandbox

    for _ in range(count):
        began = time.perf_counter()
        sandbox = Sandbox.create(template=TEMPLATE, timeout=300, request_timeout=120)
        created = time.perf_counter()
        assert sandbox.commands.run("echo hi").stdout == "hi\n"
        done = time.perf_counter()
        print(f"{created - began:.4f} {done - created:.4f}", flush=True)
        sandbox.kill()


def run(cloud: roles.Cloud, count: int) -> list[tuple[float, float]]:
    """``count`` creates; (create, first command) in seconds."""
    env = {**os.environ, **cloud.env(inside=True)}
    assert isinstance(cloud.cluster, roles.RealNode)
    command = cloud.cluster.command(sys.executable, __file__, "--inside", str(count))
    said = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True, timeout=600).stdout
    return [(float(first), float(second)) for first, second in (line.split() for line in said.splitlines())]


def show(name: str, times: list[tuple[float, float]]) -> None:
    """A row of medians and the worst."""
    create, command = ([pair[place] for pair in times] for place in (0, 1))
    both = [sum(pair) for pair in times]
    print(
        f"{name:28} n={len(times):2}  create p50 {statistics.median(create):6.3f} s  first command p50 "
        f"{statistics.median(command):6.3f} s  both p50 {statistics.median(both):6.3f} s  worst {max(both):6.3f} s"
    )


def member(cloud: roles.Cloud) -> None:
    """Seconds from each pool member's creation to its Ready condition, in whole seconds as Kubernetes has them."""
    ages = []
    for item in cloud.get("sbx", "-n", "default")["items"]:
        for condition in item.get("status", {}).get("conditions", []):
            if condition["type"] == "Ready" and condition["status"] == "True":
                made, ready = (
                    _stamp(text) for text in (item["metadata"]["creationTimestamp"], condition["lastTransitionTime"])
                )
                ages.append((ready - made).total_seconds())
    if ages:
        print(
            f"{'pool member: made to ready':28} n={len(ages):2}  p50 {statistics.median(ages):.0f} s  "
            f"worst {max(ages):.0f} s"
        )


def _stamp(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def main() -> None:
    """Warm, then cold."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    options.add_argument("--pool", type=int, default=6, help="members, and warm creates")
    options.add_argument("--cold", type=int, default=3, help="creates with an empty pool")
    chosen = options.parse_args()
    if chosen.inside is not None:
        measure(chosen.inside)
        return
    cloud = roles.attach(ROOT)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    cloud.apply(roles.seed(chosen.pool))
    cloud.await_pool(TEMPLATE, chosen.pool)
    member(cloud)
    show("from the pool", run(cloud, chosen.pool))
    cloud.apply(roles.seed(0))
    cloud.until(lambda: not cloud.get("sbx", "-n", "default")["items"], "the pool is empty")
    show("pod made for it", run(cloud, chosen.cold))
    cloud.apply(roles.seed(2))


if __name__ == "__main__":
    main()
