"""Processor time and memory of cluster access at 5,000 sandboxes: list pages, watch events, an informer's cache.

Run: ``python tests/bench/kube_list.py [COUNT]``. Decoding only, no network, so that the figures are ours and not a
server's. Prints one table; each figure is the median of five rounds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from appliance.api import kinds, times
from appliance.api.states import sandbox_state
from appliance.api.structs import Sandbox
from appliance.kube import codec
from appliance.kube.store import Store

ROUNDS = 5
PAGE = 500
SPEC = {
    "containers": [
        {
            "name": "sandbox",
            "image": "e2bdev/code-interpreter:latest",
            "resources": {name: {"cpu": 1, "memory": "1Gi"} for name in ("requests", "limits")},
            "env": [{"name": "AGENT_RUNTIME_WORKSPACE", "value": "/mnt/agent-runtime"}],
            "volumeMounts": [{"name": "agent-runtime-volume", "mountPath": "/mnt/agent-runtime"}],
            "startupProbe": {"failureThreshold": 20, "httpGet": {"path": "/health", "port": 49999}, "periodSeconds": 2},
        }
    ],
    "volumes": [{"name": "agent-runtime-volume", "emptyDir": {}}],
}


def sandbox(number: int, *, inline: bool) -> dict[str, Any]:
    """A pool member as the API server sends it, managedFields and all."""
    template = {"template": {"spec": SPEC}} if inline else {"templateRef": {"name": "code-interpreter-5f6d7c8b9"}}
    fields = {f"f:{name}": {".": {}, "f:x": {}} for name in ("metadata", "spec", "status", "labels", "annotations")}
    return {
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "Sandbox",
        "metadata": {
            "name": f"code-interpreter-{number:05}",
            "generateName": "code-interpreter-",
            "namespace": "default",
            "uid": f"00000000-0000-0000-0000-{number:012}",
            "resourceVersion": str(100_000 + number),
            "generation": 1,
            "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {
                "agents.kruise.io/sandbox-pool": "code-interpreter",
                "agents.kruise.io/sandbox-template": "code-interpreter",
                "agents.kruise.io/sandbox-claimed": "false",
                "agents.kruise.io/template-hash": "5f6d7c8b9",
            },
            "annotations": {"e2b.agents.kruise.io/should-init-envd": "true"},
            "finalizers": ["agents.kruise.io/sandbox"],
            "ownerReferences": [
                {
                    "apiVersion": "agents.kruise.io/v1alpha1", "kind": "SandboxSet", "name": "code-interpreter",
                    "uid": "11111111-0000-0000-0000-000000000000", "controller": True, "blockOwnerDeletion": True,
                }
            ],
            "managedFields": [{"manager": "appliance", "operation": "Update", "fieldsV1": fields} for _ in range(2)],
        },
        "spec": {"paused": False, **template},
        "status": {
            "observedGeneration": 1,
            "phase": "Running",
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "PodReady", "lastTransitionTime": "2026-01-02T03:04:05Z"}
            ],
            "podInfo": {"nodeName": "box", "podIP": "10.213.0.7", "podUID": f"2-{number}"},
            "nodeName": "box",
            "sandboxIp": "10.213.0.7",
            "updateRevision": "5f6d7c8b9",
        },
    }  # fmt: skip


def median_ms(action: Callable[[], object]) -> float:
    """Median processor milliseconds of ``action`` over the rounds."""
    samples = []
    for _ in range(ROUNDS):
        gc.collect()
        started = time.process_time()
        result = action()
        samples.append((time.process_time() - started) * 1000)
        del result
    return statistics.median(samples)


def decode_pages(pages: list[bytes]) -> list[Sandbox]:
    """What ``Cluster.list`` does with the answers."""
    items: list[Sandbox] = []
    for page in pages:
        items += codec.decode_page(page, Sandbox).items
    return items


def decode_events(lines: list[bytes]) -> int:
    """What a watch does with its lines."""
    return sum(codec.decode_event(line, Sandbox) is not None for line in lines)


def fill(items: list[Sandbox]) -> Store[Sandbox]:
    """What an informer does with a list, with the claim engine's kind of index."""
    now = times.now()
    store: Store[Sandbox] = Store({"pool": lambda sbx: [f"{sbx.namespace}/{sandbox_state(sbx, now)[0]}"]})
    for item in items:
        store.upsert(item)
    return store


def measure(count: int, *, inline: bool) -> list[tuple[str, float, str]]:
    """The rows for one form of sandbox."""
    bodies = [sandbox(number, inline=inline) for number in range(count)]
    pages = [
        json.dumps({"metadata": {"resourceVersion": "1"}, "items": bodies[start : start + PAGE]}).encode()
        for start in range(0, count, PAGE)
    ]
    lines = [json.dumps({"type": "MODIFIED", "object": body}).encode() for body in bodies]
    form = "template inline" if inline else "templateRef"
    size = sum(map(len, pages))
    items = decode_pages(pages)
    listing, watching = median_ms(lambda: decode_pages(pages)), median_ms(lambda: decode_events(lines))
    return [
        (f"list, {form}", listing, f"{size / 1e6:.1f} MB, {listing * 1000 / count:.1f} us each"),
        (f"list with json.loads, {form}", median_ms(lambda: [json.loads(page) for page in pages]), "for comparison"),
        (f"one page of {PAGE}, {form}", median_ms(lambda: decode_pages(pages[:1])), "blocks the loop so long"),
        (f"watch events, {form}", watching, f"{watching * 1000 / count:.1f} us each"),
        (f"informer cache with one index, {form}", median_ms(lambda: fill(items)), "from decoded objects"),
    ]


def kept_memory(count: int) -> str:
    """Growth of the resident size by a decoded list, in a process of its own."""
    import os

    reader, writer = os.pipe()
    if os.fork() == 0:
        pages = [
            json.dumps({"items": [sandbox(n, inline=False) for n in range(start, start + PAGE)]}).encode()
            for start in range(0, count, PAGE)
        ]
        gc.collect()
        before = resident()
        items = decode_pages(pages)
        os.write(writer, f"{(resident() - before) / 1e6:.1f} MB for {len(items)}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        return pipe.read()


def resident() -> int:
    """Resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def connection_cost() -> str:
    """What making a connection costs: the kubernetes package is imported then."""
    import tempfile

    from appliance.config import KubeSettings
    from appliance.kube.cluster import Cluster

    config = {
        "current-context": "x",
        "clusters": [{"name": "x", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "x", "user": {"token": "t"}}],
        "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        before, started = resident(), time.process_time()
        async with await Cluster.connect(KubeSettings(kubeconfig=Path(file.name))):
            return f"{(time.process_time() - started) * 1000:.0f} ms CPU, {(resident() - before) / 1e6:.0f} MB"


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    print(f"connect (imports the kubernetes package): {asyncio.run(connection_cost())}")
    print(f"{count} {kinds.SANDBOX.plural}, processor milliseconds, median of {ROUNDS}")
    for inline in (False, True):
        for name, milliseconds, remark in measure(count, inline=inline):
            print(f"  {name:48} {milliseconds:9.1f}  {remark}")
    print(f"  {'memory kept by the decoded list, templateRef':48} {kept_memory(count)}")


if __name__ == "__main__":
    main()
