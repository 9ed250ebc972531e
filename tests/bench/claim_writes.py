"""How many writes the API server sees per claim, on a running box.

The embedded API numbers every write of the whole cluster with one ``resourceVersion``, so the difference of two numbers
counts the writes of everybody: manager, controller and node. Measured twice: with the refill frozen
(``scaleStrategy.maxUnavailable: 0``), which is the price of a claim alone, and with it, claim and replacement together,
pods and their statuses included. Sandboxes made here are killed at the end; the pool gets its size and strategy back.

    eval "$(appliance env)"; python tests/bench/claim_writes.py --kubeconfig "$(appliance kubeconfig)" [--claims 10]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

import aiohttp

sys.path.insert(0, str(Path(__file__).parents[2]))

from appliance.api.kinds import SANDBOX, SANDBOXSET
from appliance.config import KubeSettings
from appliance.kube.cluster import Cluster

POOL = ("default", "code-interpreter")
QUIET = 3.0
"""Seconds without a write after which everybody is taken to be done."""


async def version(cluster: Cluster) -> int:
    """The number of the newest write."""
    return int((await cluster.list(SANDBOX, limit=1)).resource_version)


async def settled(cluster: Cluster) -> int:
    """The number of the newest write once nobody has written for a while."""
    last, since = await version(cluster), 0.0
    while since < QUIET:
        await asyncio.sleep(0.25)
        now = await version(cluster)
        since = since + 0.25 if now == last else 0.0
        last = now
    return last


async def available(cluster: Cluster, count: int) -> None:
    """Wait for a pool of ``count``."""
    while (await cluster.get(SANDBOXSET, *POOL)).status.available_replicas != count:
        await asyncio.sleep(0.2)


async def measure(cluster: Cluster, session: aiohttp.ClientSession, claims: int) -> float:
    """Writes per claim of ``claims`` claims in a row."""
    before = await settled(cluster)
    made = []
    for _ in range(claims):
        async with session.post("/v2/sandboxes", json={"templateID": POOL[1], "timeout": 300}) as answer:
            made.append((await answer.json())["sandboxID"])
    after = await settled(cluster)
    for sandbox in made:
        await (await session.delete(f"/sandboxes/{sandbox}")).release()
    return (after - before) / claims


async def main() -> None:
    """Measure both ways and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--claims", type=int, default=10)
    options = parser.parse_args()
    cluster = await Cluster.connect(KubeSettings(kubeconfig=options.kubeconfig))
    headers = {"X-API-Key": os.environ["E2B_API_KEY"]}
    size = (await cluster.get(SANDBOXSET, *POOL)).spec.replicas
    try:
        async with aiohttp.ClientSession(os.environ["E2B_API_URL"], headers=headers) as session:
            scale = {"replicas": options.claims}
            await cluster.patch(SANDBOXSET, *POOL, {"spec": scale})
            await available(cluster, options.claims)
            await cluster.patch(SANDBOXSET, *POOL, {"spec": {"scaleStrategy": {"maxUnavailable": 0}}})
            alone = await measure(cluster, session, options.claims)
            await cluster.patch(SANDBOXSET, *POOL, {"spec": {"scaleStrategy": None}})
            await available(cluster, options.claims)
            together = await measure(cluster, session, options.claims)
    finally:
        await cluster.patch(SANDBOXSET, *POOL, {"spec": {"replicas": size, "scaleStrategy": None}})
        await cluster.close()
    print(
        f"API writes per claim, {options.claims} claims: {alone:.2f} alone (goal <= 2), {together:.2f} with replacement"
    )


if __name__ == "__main__":
    asyncio.run(main())
