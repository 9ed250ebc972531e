"""What the embedded API server costs: ``python tests/bench/apiserver.py`` prints one table.

A server process, a client process (this one) on raw sockets so that the client's own cost stays small. CPU is the
server process's user and system time from /proc, divided by the number of operations.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))

from conftest import ApiServer

SANDBOXES = "/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes"
MERGE = "application/merge-patch+json"


def sandbox(index: int) -> dict[str, object]:
    """A pool member of about 3 KB."""
    env = [{"name": f"VARIABLE_{n}", "value": "x" * 40} for n in range(24)]
    spec = {"containers": [{"name": "sandbox", "image": "e2bdev/code-interpreter:latest", "env": env}]}
    labels = {"agents.kruise.io/sandbox-pool": "pool", "agents.kruise.io/sandbox-claimed": "false"}
    return {"metadata": {"name": f"sbx-{index}", "labels": labels}, "spec": {"template": {"spec": spec}}}


class Client:
    """One keep-alive connection."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server

    async def open(self) -> Client:
        host, port = self.server.listen.split(":")
        self.reader, self.writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
        return self

    def send(self, method: str, path: str, body: bytes = b"", media: str = "application/json") -> None:
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.server.token}\r\n"
            f"Content-Type: {media}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.writer.write(head.encode() + body)

    async def ask(self, method: str, path: str, body: bytes = b"", media: str = "application/json") -> bytes:
        self.send(method, path, body, media)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        answer = await self.reader.readexactly(length)
        assert head[9:10] == b"2", answer
        return answer


def cpu(server: ApiServer) -> float:
    """Seconds of CPU the server has used."""
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(
    server: ApiServer, label: str, count: int, parallel: int, operation: Callable[[Client, int], Awaitable[object]]
) -> None:
    """Runs ``count`` operations on ``parallel`` connections and prints the row."""
    clients = [await Client(server).open() for _ in range(parallel)]
    numbers = iter(range(count))
    times: list[float] = []

    async def work(client: Client) -> None:
        for number in numbers:
            start = time.perf_counter()
            await operation(client, number)
            times.append(time.perf_counter() - start)

    before, start = cpu(server), time.perf_counter()
    await asyncio.gather(*map(work, clients))
    wall, used = time.perf_counter() - start, cpu(server) - before
    cuts = statistics.quantiles(times, n=100)
    print(
        f"{label:<44}{count / wall:>8.0f}/s  CPU {used / count * 1e3:6.3f} ms"
        f"  p50 {cuts[49] * 1e3:7.2f} ms  p99 {cuts[98] * 1e3:7.2f} ms"
    )
    for client in clients:
        client.writer.close()


async def watchers(server: ApiServer, count: int) -> list[asyncio.Task[int]]:
    """``count`` watches of all sandboxes, read to the end and counted in bytes."""

    async def follow() -> int:
        client = await Client(server).open()
        client.send("GET", SANDBOXES + "?watch=true")
        total = 0
        while data := await client.reader.read(1 << 20):
            total += len(data)
        return total

    tasks = [asyncio.create_task(follow()) for _ in range(count)]
    await asyncio.sleep(0.5)
    return tasks


async def bench(server: ApiServer) -> None:
    """The table."""
    bodies = [json.dumps(sandbox(index)).encode() for index in range(1000)]
    print(f"object of {len(bodies[0])} bytes")
    await measure(server, "create, 16 in flight", 1000, 16, lambda c, n: c.ask("POST", SANDBOXES, bodies[n]))

    def claim(client: Client, number: int) -> Awaitable[bytes]:
        labels = {"agents.kruise.io/sandbox-claimed": "true", "agents.kruise.io/sandbox-id": f"i{number:020d}"}
        patch = {"metadata": {"labels": labels, "annotations": {"agents.kruise.io/lock": str(time.time_ns())}}}
        return client.ask("PATCH", f"{SANDBOXES}/sbx-{number % 1000}", json.dumps(patch).encode(), MERGE)

    await measure(server, "claim-like merge patch, serial", 2000, 1, claim)
    await measure(server, "claim-like merge patch, 50 in flight", 4000, 50, claim)
    await measure(server, "get", 3000, 1, lambda c, n: c.ask("GET", f"{SANDBOXES}/sbx-{n % 1000}"))
    await measure(server, "list of 1000", 20, 1, lambda c, n: c.ask("GET", SANDBOXES))
    tasks = await watchers(server, 20)
    await measure(server, "merge patch, serial, 20 watchers", 2000, 1, claim)
    for task in tasks:
        task.cancel()


def main() -> None:
    """Starts a server on a temporary directory and measures it."""
    with tempfile.TemporaryDirectory() as directory:
        server = ApiServer(Path(directory))
        server.start()
        try:
            asyncio.run(bench(server))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
