"""The controller's ``/metrics``: plain text, made on demand from the cached copies, served on a small socket.

No per-sandbox series: with ten thousand sandboxes they cost more than they tell. Counts by phase, per pool and per
queue answer what an operator asks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from appliance.api import labels
from appliance.api.address import parse_address
from appliance.claims.engine import ClaimEngine
from appliance.controller.world import World
from appliance.kube.workqueue import WorkQueue

_HEAD_LIMIT = 8192
_HEAD_TIMEOUT = 5.0


def lines(world: World, engine: ClaimEngine, queues: Mapping[str, WorkQueue[Any]]) -> Iterator[str]:
    """Prometheus text, one series a line."""
    phases = Counter(
        (item.status.phase or "New", item.meta.labels.get(labels.POOL, "")) for item in world.sandboxes.items()
    )
    for (phase, pool), count in sorted(phases.items()):
        yield f'sandbox_status_phase{{phase="{phase}",sandbox_pool="{pool}",source="k8s"}} {count}'
    for item in list(world.sets.items()):
        where = f'{{namespace="{item.namespace}",name="{item.name}"}}'
        yield f"sandboxset_desired_replicas{where} {item.spec.replicas}"
        yield f"sandboxset_replicas{where} {item.status.replicas}"
        yield f"sandboxset_available_replicas{where} {item.status.available_replicas}"
        yield f"sandboxset_updated_replicas{where} {item.status.updated_replicas}"
        yield f"sandboxset_updated_available_replicas{where} {item.status.updated_available_replicas}"
    for phase, count in sorted(Counter(item.status.phase or "New" for item in world.claims.items()).items()):
        yield f'sandbox_claim_status_phase{{phase="{phase}"}} {count}'
    for outcome, count in sorted(engine.outcomes.items()):
        yield f'sandboxset_claims_total{{outcome="{outcome}"}} {count}'
    for name, queue in queues.items():
        yield f'appliance_queue_waiting{{queue="{name}"}} {len(queue)}'
        yield f'appliance_queue_active{{queue="{name}"}} {queue.active}'
        yield f'appliance_queue_done_total{{queue="{name}"}} {queue.metrics.done}'
        yield f'appliance_queue_failed_total{{queue="{name}"}} {queue.metrics.failed}'
        yield f'appliance_queue_busy_seconds_total{{queue="{name}"}} {queue.metrics.busy_seconds:.3f}'
    yield f"appliance_events_dropped_total {world.events.dropped}"
    yield from world.cluster.metrics.lines()


async def answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    world: World,
    engine: ClaimEngine,
    queues: Mapping[str, WorkQueue[Any]],
) -> None:
    """One request per connection: ``GET /metrics`` and ``GET /healthz``; anything else is 404."""
    try:
        async with asyncio.timeout(_HEAD_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
            target = head.split(b" ", 2)[1] if head.startswith(b"GET ") else b""
            status, body = 404, "not found; there is /metrics and /healthz\n"
            if target == b"/metrics":
                status, body = 200, "\n".join(lines(world, engine, queues)) + "\n"
            elif target == b"/healthz":
                status, body = 200, "ok\n"
            data = body.encode()
            phrase = "OK" if status == 200 else "Not Found"
            kind = "text/plain; version=0.0.4"
            top = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n"
            writer.write(top.encode() + b"Connection: close\r\n\r\n" + data)
            await writer.drain()
    except (OSError, EOFError, IndexError, asyncio.LimitOverrunError):
        pass
    finally:
        writer.close()


async def serve(listen: str, world: World, engine: ClaimEngine, queues: Mapping[str, WorkQueue[Any]]) -> asyncio.Server:
    """Listen on HOST:PORT; close the returned server to end it. Raises ValueError, OSError."""
    address = parse_address(listen, "metrics_listen")

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answer(reader, writer, world, engine, queues)

    return await asyncio.start_server(handle, address.host, address.port, limit=_HEAD_LIMIT)
