"""Claims on a real API server: latency, rate, API requests and processor time, with simulated nodes.

etcd (durable) and kube-apiserver 1.36, kwok as kubelet, a stub as every runtime, one client on keep-alive connections;
everything shares this machine's processors. The middle column of the table is the existing Go system, measured the same
way on two processors (shared/reference/claims-speed.md); read ratios, not milliseconds. After each scenario the pool
refills before the next, every sandbox made is killed, and errors, sandboxes with two owners, sandboxes that nobody was
told of and creations despite stock are counted: all must be zero.

    KUBEBUILDER_ASSETS=$(packaging/kube-assets.sh etcd kube-apiserver kube-controller-manager kwok) \\
        python tests/bench/claims_on_kubernetes.py [SCENARIO…] [--rounds 1] [--scale 1.0] [--json FILE]

Needs root (it makes a network namespace for itself). Scenarios: alone member paced serial frozen flight20 flight75
burst gone empty rolling sync; default all but the last two (which take minutes).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]

import leaving_client
from simulated_nodes import NODE, Audit, SimulatedCluster, enter_network_namespace, missing, per_component

from appliance.api.kinds import SANDBOX, SANDBOXSET
from appliance.api.labels import SANDBOX_ID
from appliance.api.structs import Sandbox
from appliance.config import KubeSettings
from appliance.kube.cluster import Cluster

POOL = ("default", "pool")
CREATE = "/v2/sandboxes"
BODY = {"templateID": POOL[1], "timeout": 600}
SLOW_POD = 300.0
"""Seconds a pool may take to reach its size."""


@dataclass
class Claims:
    """What a scenario saw: seconds per claim, ids, errors by text, and how long all of it took."""

    seconds: list[float] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    gone: int = 0
    elapsed: float = 0.0

    def rate(self) -> float:
        """Claims answered per second."""
        return len(self.ids) / self.elapsed

    def percentiles(self) -> str:
        """p50 / p90 / p99 / max in ms."""
        ordered = sorted(self.seconds) or [0.0]
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.9, 0.99)]
        return " / ".join(f"{value * 1000:.0f}" for value in [*at, ordered[-1]])


class Bench:
    """One running system and the client that drives it."""

    def __init__(self, system: SimulatedCluster, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self.system, self.cluster, self.session = system, cluster, session
        self.audit = Audit(system.directory / "audit.log")
        self.rows: list[dict[str, Any]] = []

    # The pool -------------------------------------------------------------------------------------------------------

    async def resize(self, replicas: int, *, frozen: bool = False) -> None:
        """The pool at exactly this size, everybody done."""
        await self.cluster.patch(SANDBOXSET, *POOL, {"spec": {"replicas": replicas, "scaleStrategy": None}})
        await self.full(replicas)
        if frozen:
            await self.cluster.patch(SANDBOXSET, *POOL, {"spec": {"scaleStrategy": {"maxUnavailable": 0}}})
        await self.quiet()

    async def full(self, replicas: int) -> None:
        """Wait until the set says it has that many available."""
        end = time.monotonic() + SLOW_POD + replicas / 10
        while True:
            status = (await self.cluster.get(SANDBOXSET, *POOL)).status
            if status.available_replicas == replicas == status.replicas:
                return
            assert time.monotonic() < end, f"pool stuck at {status}"
            await asyncio.sleep(0.05)

    async def quiet(self) -> None:
        """Wait until nobody has written anything for a second."""
        last, since = 0, time.monotonic()
        while time.monotonic() - since < 1.0:
            size = self.audit.path.stat().st_size
            version = int((await self.cluster.list(SANDBOX, limit=1)).resource_version)
            if version != last:
                last, since = version, time.monotonic()
            await asyncio.sleep(0.1 if size else 0.2)

    # Claims ---------------------------------------------------------------------------------------------------------

    async def one(self, into: Claims) -> None:
        """One claim as an SDK asks for it."""
        began = time.perf_counter()
        async with self.session.post(CREATE, json=BODY) as answer:
            _count(into, answer.status, await answer.json(), began)

    async def impatient(self, into: Claims, patience: float) -> None:
        """One claim of a client that is gone after ``patience`` seconds."""
        began = time.perf_counter()
        headers = {"X-API-Key": self.system.key}
        answer = await leaving_client.post(self.system.url + CREATE, BODY, headers, patience)
        if answer is None:
            into.gone += 1
        else:
            _count(into, *answer, began)

    async def many(self, count: int, in_flight: int, patience: float | None = None) -> Claims:
        """``count`` claims, at most ``in_flight`` at once, each given up after ``patience`` seconds."""
        claims, slots = Claims(), asyncio.Semaphore(in_flight)

        async def turn() -> None:
            async with slots:
                await (self.one(claims) if patience is None else self.impatient(claims, patience))

        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(turn())
        claims.elapsed = time.perf_counter() - began
        return claims

    async def paced(self, count: int, seconds: float) -> Claims:
        """One claim every so often."""
        claims = Claims()
        began = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, began + number * seconds - time.perf_counter()))
            await self.one(claims)
        claims.elapsed = time.perf_counter() - began
        return claims

    async def kill(self, claims: Claims) -> None:
        """Delete what a scenario made."""
        slots = asyncio.Semaphore(20)

        async def one(sandbox: str) -> None:
            async with slots, self.session.delete(f"/sandboxes/{sandbox}") as answer:
                assert answer.status == 204, await answer.text()

        await asyncio.gather(*(one(sandbox) for sandbox in claims.ids))

    async def unknown(self, claims: Claims) -> int:
        """Claimed sandboxes that no client was told of."""
        items: list[Sandbox] = list((await self.cluster.list(SANDBOX, POOL[0])).items)
        owned = {item.meta.labels.get(SANDBOX_ID) for item in items if _claimed(item)}
        return len(owned - set(claims.ids))

    async def report(self, name: str, claims: Claims, before: dict[str, float], *, refill: float | None = None) -> None:
        """Check what must be zero and keep the figures."""
        counts = self.audit.counts()
        conflicts = sum(count for (user, *_, code), count in counts.items() if code == 409 and user in OURS)
        units = max(1, len(claims.ids))
        cpu = {key: (value - before.get(key, 0.0)) * 1000 / units for key, value in self.system.cpu().items()}
        duplicates = len(claims.ids) - len(set(claims.ids))
        created = counts["manager", "create", "sandboxes", 201]
        unknown = await self.unknown(claims)
        requests = per_component(counts, units)
        row = {
            "scenario": name,
            "claims": len(claims.ids),
            "ms p50/p90/p99/max": claims.percentiles(),
            "per_second": round(claims.rate(), 1),
            "refill_seconds": refill,
            "requests w+r": {key: f"{writes:.2f}+{reads:.2f}" for key, (writes, reads) in requests.items()},
            "cpu_ms": {key: round(value, 1) for key, value in cpu.items()},
            "pss": {key: round(self.system.pss(key)) for key in OURS},
            "conflicts": conflicts,
            "created": created,
            "errors": dict(claims.errors),
            "two owners": duplicates,
            "unknown": unknown,
            "gone": claims.gone,
        }
        self.rows.append(row)
        print(json.dumps(row), flush=True)


OURS = ("manager", "controller")


def _count(into: Claims, status: int, said: Any, began: float) -> None:
    if status == 201:
        into.ids.append(said["sandboxID"])
        into.seconds.append(time.perf_counter() - began)
    else:
        into.errors[f"{status} {said.get('message')}"] += 1


def _claimed(item: Sandbox) -> bool:
    return item.meta.labels.get("agents.kruise.io/sandbox-claimed") == "true" and not item.meta.deletion_timestamp


async def _claims(
    bench: Bench, name: str, pool: int, drive: Callable[[], Awaitable[Claims]], *, frozen: bool = False
) -> Claims:
    """One scenario: fill, drive, refill, report, kill."""
    await bench.resize(pool, frozen=frozen)
    bench.audit.mark()
    before = bench.system.cpu()
    claims = await drive()
    refill = None
    if not frozen:
        began = time.perf_counter()
        await bench.full(pool)
        refill = round(time.perf_counter() - began, 2)
    await bench.quiet()
    await bench.report(name, claims, before, refill=refill)
    await bench.kill(claims)
    return claims


async def alone(bench: Bench, scale: float) -> None:
    """What one claim costs in API requests, nothing else going on."""
    await _claims(bench, "alone", int(60 * scale), lambda: bench.paced(int(20 * scale), 0.3), frozen=True)


async def member(bench: Bench, scale: float) -> None:
    """Writes per new pool member, and the refill from nothing."""
    await bench.resize(0)
    bench.audit.mark()
    before, count = bench.system.cpu(), int(300 * scale)
    began = time.perf_counter()
    await bench.cluster.patch(SANDBOXSET, *POOL, {"spec": {"replicas": count}})
    await bench.full(count)
    claims = Claims(ids=[str(number) for number in range(count)], elapsed=time.perf_counter() - began)
    await bench.quiet()
    await bench.report(f"refill 0 -> {count}", claims, before, refill=round(claims.elapsed, 2))


async def paced(bench: Bench, scale: float) -> None:
    """One claim a second with refill."""
    await _claims(bench, "paced, 1 per s", int(50 * scale), lambda: bench.paced(int(30 * scale), 1.0))


async def serial(bench: Bench, scale: float) -> None:
    """Back to back with refill."""
    await _claims(bench, "serial", int(200 * scale), lambda: bench.many(int(100 * scale), 1))


async def frozen(bench: Bench, scale: float) -> None:
    """Back to back, refill frozen."""
    await _claims(bench, "serial, frozen", int(200 * scale), lambda: bench.many(int(100 * scale), 1), frozen=True)


async def flight20(bench: Bench, scale: float) -> None:
    """20 in flight."""
    await _claims(bench, "20 in flight", int(500 * scale), lambda: bench.many(int(400 * scale), 20))


async def flight75(bench: Bench, scale: float) -> None:
    """75 in flight."""
    await _claims(bench, "75 in flight", int(500 * scale), lambda: bench.many(int(400 * scale), 75))


async def burst(bench: Bench, scale: float) -> None:
    """300 at once on a pool of 400."""
    await _claims(bench, "burst 300", int(400 * scale), lambda: bench.many(int(300 * scale), 300))


async def gone(bench: Bench, scale: float) -> None:
    """300 at once, every client gone after two seconds (and after 0.4, so that most are)."""
    count = int(300 * scale)
    await _claims(bench, "burst 300, gone 2 s", int(400 * scale), lambda: bench.many(count, 300, 2.0))
    await _claims(bench, "burst 300, gone 0.4 s", int(400 * scale), lambda: bench.many(count, 300, 0.4))


async def empty(bench: Bench, scale: float) -> None:
    """No stock at all."""
    await _claims(bench, "empty pool, 20 in flight", 0, lambda: bench.many(int(300 * scale), 20))


async def rolling(bench: Bench, scale: float) -> None:
    """A pool of 1,000 changes its template while it is claimed from: no claim fails, no claimed sandbox is touched."""
    count = int(1000 * scale)
    await bench.resize(count)
    bench.audit.mark()
    before = bench.system.cpu()
    template = (await bench.cluster.get(SANDBOXSET, *POOL, type=dict))["spec"]["template"]
    template["metadata"] = {"annotations": {"rolled": str(time.time_ns())}}
    began = time.perf_counter()
    await bench.cluster.patch(SANDBOXSET, *POOL, {"spec": {"template": template}})
    claims = await bench.paced(int(100 * scale), 0.1)
    while True:
        status = (await bench.cluster.get(SANDBOXSET, *POOL)).status
        if status.updated_available_replicas == count == status.replicas:
            break
        assert time.perf_counter() - began < SLOW_POD + count / 3, f"the update is stuck at {status}"
        await asyncio.sleep(0.1)
    took = time.perf_counter() - began
    await bench.quiet()
    alive = {item.meta.labels.get(SANDBOX_ID) for item in (await bench.cluster.list(SANDBOX, POOL[0])).items}
    lost = len(set(claims.ids) - alive)
    assert lost == 0, f"{lost} claimed sandboxes were deleted by the update"
    await bench.report(f"rolling update of {count}", claims, before, refill=round(took, 2))
    await bench.kill(claims)


async def sync(bench: Bench, scale: float) -> None:
    """First sync and reconcile of a controller that starts with 5,000 sandboxes."""
    count = int(5000 * scale)
    await bench.resize(count)
    for role in OURS:
        bench.system.end(role)
    began = time.perf_counter()
    bench.system.start_role("controller", "--no-leader-election")
    controller = await _reconciled(bench)
    before = time.perf_counter()
    bench.system.start_role("manager", "--listen", bench.system.url.removeprefix("http://"))
    manager = time.perf_counter() - before
    cpu = bench.system.cpu()
    print(
        json.dumps({
            "scenario": f"first sync, {count} sandboxes", "controller_seconds": round(controller - began, 2),
            "manager_seconds": round(manager, 2), "pss": {key: round(bench.system.pss(key)) for key in OURS},
            "cpu_seconds": {key: round(cpu[key], 2) for key in OURS},
        }),
        flush=True,
    )  # fmt: skip


async def _reconciled(bench: Bench) -> float:
    """When the fresh controller has used no processor for half a second after its first second: its time of rest."""
    log = bench.system.directory / "controller.log"
    last, still = -1.0, time.perf_counter()
    while time.perf_counter() - still < 0.5:
        now = bench.system.cpu()["controller"]
        if now - last > 0.02:
            last, still = now, time.perf_counter()
        await asyncio.sleep(0.05)
    assert log.exists()
    return still


SCENARIOS = {
    one.__name__: one
    for one in (alone, member, paced, serial, frozen, flight20, flight75, burst, gone, empty, rolling, sync)
}  # fmt: skip


async def measure(options: argparse.Namespace, directory: Path) -> None:
    """Start everything, run the scenarios, end everything."""
    system = SimulatedCluster(directory)
    try:
        system.start()
        system.start_ours()
        cluster = await Cluster.connect(KubeSettings(kubeconfig=system.kubeconfig("bench")))
        await cluster.create(SANDBOXSET, POOL[0], _pool())
        connector = aiohttp.TCPConnector(limit=0)
        headers = {"X-API-Key": system.key}
        async with aiohttp.ClientSession(system.url, headers=headers, connector=connector) as session:
            bench = Bench(system, cluster, session)
            for _ in range(options.rounds):
                for name in options.scenarios:
                    await SCENARIOS[name](bench, options.scale)
        await cluster.close()
        if options.json:
            options.json.write_text(json.dumps(bench.rows, indent=1))
    finally:
        system.stop()


def _pool() -> dict[str, Any]:
    """The seed's pool with the simulated node named in it, as no scheduler runs."""
    import yaml

    seed = yaml.safe_load((Path(__file__).parents[1] / "e2e" / "seed" / "sandboxset.yaml").read_text())
    seed["metadata"] |= {"name": POOL[1], "namespace": POOL[0]}
    seed["spec"]["replicas"] = 0
    seed["spec"]["template"]["spec"]["nodeName"] = NODE
    return dict(seed)


def main() -> None:
    """Parse, enter a namespace, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenarios",
        nargs="*",
        metavar="SCENARIO",
        default=[name for name in SCENARIOS if name not in ("rolling", "sync")],
    )
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the sizes of pools and numbers of claims")
    parser.add_argument("--json", type=Path, help="also write the rows here")
    parser.add_argument("--keep", action="store_true", help="keep logs and data")
    options = parser.parse_args()
    if unknown := [name for name in options.scenarios if name not in SCENARIOS]:
        parser.error(f"unknown scenario {unknown[0]!r}; known: {', '.join(SCENARIOS)}")
    if why := missing():
        parser.error(why)
    enter_network_namespace()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # so that everything started is ended too
    directory = Path(tempfile.mkdtemp(prefix="claims-bench-"))
    try:
        asyncio.run(measure(options, directory))
    finally:
        if options.keep:
            print(f"kept {directory}", file=sys.stderr)
        else:
            with contextlib.suppress(OSError):
                shutil.rmtree(directory)


if __name__ == "__main__":
    main()
