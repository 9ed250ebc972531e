"""A running box through the unmodified SDK, each call beside the client's own floor; and claims per second.

    E2B_API_URL=… E2B_SANDBOX_URL=… E2B_API_KEY=… python tests/bench/box.py [--template code-interpreter] [--rounds 20]

The floor is the same SDK call against a server that answers at once with canned bytes: what client and loopback cost by
themselves. Rounds are interleaved, box and floor in turn. The last rows use plain sockets, so that the client does not
bound them: creations with 50 in flight. Every sandbox made here is deleted at the end, also after an error.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

ID = "icannedcannedcanned00"
GOALS = {"create, first command": "p50 <= 60", "create, first run_code": "p50 <= 100"}


# The canned server ------------------------------------------------------------------------------------------------


def _frames(*messages: dict[str, Any]) -> bytes:
    """A Connect stream: the messages, then an empty end of stream."""
    last = len(messages)
    bodies = [json.dumps(m).encode() for m in (*messages, {})]
    return b"".join(bytes([2 if n == last else 0]) + len(b).to_bytes(4, "big") + b for n, b in enumerate(bodies))


def _response(status: str, kind: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _canned() -> dict[str, bytes]:
    sandbox = {
        "templateID": "code-interpreter",
        "sandboxID": ID,
        "clientID": "c",
        "envdVersion": "0.6.13",
        "envdAccessToken": "t",
        "domain": None,
    }
    end = {"event": {"end": {"exited": True, "status": "exit status 0"}}}
    lines = [
        {"type": "number_of_executions", "execution_count": 1},
        {"type": "result", "text": "1", "extra": {}, "is_main_result": True},
        {"type": "end_of_execution"},
    ]
    return {
        "create": _response("201 Created", "application/json", json.dumps(sandbox).encode()),
        "kill": b"HTTP/1.1 204 No Content\r\n\r\n",
        "start": _response("200 OK", "application/connect+json", _frames({"event": {"start": {"pid": 1}}}, end)),
        "execute": _response("200 OK", "text/plain", b"".join(json.dumps(line).encode() + b"\n" for line in lines)),
    }


class Canned(asyncio.Protocol):
    """Answers each complete request by its path."""

    answers = _canned()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.buffer = b""

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            found = re.search(rb"content-length: (\d+)", head)
            if b"transfer-encoding: chunked" in head:
                stop = self.buffer.find(b"\r\n0\r\n\r\n", end + 4)
                size = stop + 7 if stop >= 0 else len(self.buffer) + 1
            else:
                size = end + 4 + (int(found[1]) if found else 0)
            if len(self.buffer) < size:
                return
            self.buffer = self.buffer[size:]
            self.transport.write(self.answers[_kind(head)])


def _kind(head: bytes) -> str:
    method, path = head.split(b" ", 2)[:2]
    if method == b"delete":
        return "kill"
    if path.startswith(b"/process"):
        return "start"
    return "execute" if path.startswith(b"/execute") else "create"


async def serve_canned() -> None:
    """Print the port, serve until the parent ends us."""
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextlib.contextmanager
def canned() -> Iterator[str]:
    """URL of a canned server in a process of its own."""
    with subprocess.Popen([sys.executable, __file__, "--canned"], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}"
        finally:
            child.terminate()


# The SDK ----------------------------------------------------------------------------------------------------------


class Side:
    """The box or the floor: how to make sandboxes there, and the times measured."""

    def __init__(self, api: str, sandboxes: str, key: str, template: str) -> None:
        self.options = {"api_url": api, "sandbox_url": sandboxes, "api_key": key}
        self.template = template
        self.times: dict[str, list[float]] = {}

    def create(self) -> Any:
        """A new sandbox."""
        from e2b_code_interpreter import Sandbox

        return Sandbox.create(self.template, timeout=300, **self.options)

    def time(self, name: str, call: Callable[[], Any]) -> Any:
        """Run and record, in milliseconds."""
        start = time.perf_counter()
        result = call()
        self.times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
        return result

    def first(self, name: str, use: Callable[[Any], Any]) -> None:
        """From nothing to the first result; the sandbox is killed outside the measured time."""
        made: list[Any] = []

        def whole() -> None:
            made.append(self.create())
            use(made[0])

        try:
            self.time(name, whole)
        finally:
            for sandbox in made:
                sandbox.kill()


def command(sandbox: Any) -> None:
    """The shortest command."""
    assert sandbox.commands.run("true").exit_code == 0


def code(sandbox: Any) -> None:
    """The shortest cell."""
    assert sandbox.run_code("1").text == "1"


def measure(sides: list[Side], rounds: int, calls: int) -> None:
    """All rows, sides in turn."""
    for side in sides:  # imports, connections and caches of the client are not what is measured
        side.first("warm-up", lambda sandbox: (command(sandbox), code(sandbox)))
    for _ in range(rounds):
        for side in sides:
            side.first("create, first command", command)
        for side in sides:
            side.first("create, first run_code", code)
    with contextlib.ExitStack() as stack:
        held = []
        for side in sides:
            held.append((side, side.create()))
            stack.callback(held[-1][1].kill)
            command(held[-1][1])
            code(held[-1][1])
        for _ in range(calls):
            for side, sandbox in held:
                side.time('commands.run("true")', lambda s=sandbox: command(s))  # type: ignore[misc]
                side.time('run_code("1")', lambda s=sandbox: code(s))  # type: ignore[misc]


def quantile(values: list[float], q: float) -> float:
    """The q-quantile by rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(q * len(ranked)))]


def report(box: Side, floor: Side) -> None:
    """The table."""
    print(f"{'ms':<26}{'n':>5}{'p50':>9}{'p99':>9}{'floor p50':>11}{'floor p99':>11}  goal")
    for name, values in box.times.items():
        if name == "warm-up":
            continue
        below = floor.times[name]
        print(
            f"{name:<26}{len(values):>5}{statistics.median(values):>9.2f}{quantile(values, 0.99):>9.2f}"
            f"{statistics.median(below):>11.2f}{quantile(below, 0.99):>11.2f}  {GOALS.get(name, '')}"
        )


# Claims -----------------------------------------------------------------------------------------------------------


class Api:
    """One kept connection to the control API."""

    def __init__(self, url: str, key: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "http":
            raise SystemExit(f"the claims benchmark speaks plain HTTP; E2B_API_URL is {url}")
        self.host, self.port, self.prefix = parts.hostname or "", parts.port or 80, parts.path.rstrip("/")
        self.key = key

    async def __aenter__(self) -> Api:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body."""
        head = f"{method} {self.prefix}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nX-API-Key: {self.key}\r\n"
        fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write((head + fields).encode() + body)
        async with asyncio.timeout(90):
            answer = (await self.reader.readuntil(b"\r\n\r\n")).lower()
            status = int(answer.split()[1])
            found = re.search(rb"content-length: (\d+)", answer)
            return status, await self.reader.readexactly(int(found[1])) if found else b""


async def claims(url: str, key: str, template: str, count: int, flight: int) -> None:
    """``count`` creations with ``flight`` in flight; deletes what it made."""
    made: list[str] = []
    times: list[float] = []
    refused: dict[int, int] = {}
    numbers = iter(range(count))
    body = json.dumps({"templateID": template, "timeout": 300}).encode()

    async def worker() -> None:
        async with Api(url, key) as api:
            for _ in numbers:
                start = time.perf_counter()
                status, answer = await api.ask("POST", "/v2/sandboxes", body)
                if status == 201:
                    times.append((time.perf_counter() - start) * 1e3)
                    made.append(json.loads(answer)["sandboxID"])
                else:
                    refused[status] = refused.get(status, 0) + 1

    async def remover() -> None:
        async with Api(url, key) as api:
            while made:
                await api.ask("DELETE", f"/sandboxes/{made.pop()}")

    start = time.perf_counter()
    try:
        await asyncio.gather(*(worker() for _ in range(flight)))
        seconds = time.perf_counter() - start
    finally:
        await asyncio.gather(*(remover() for _ in range(8)))
    if not times:
        raise SystemExit(f"no creation succeeded: {refused}")
    row = f"{len(times) / seconds:.1f}/s, p50 {statistics.median(times):.1f} ms, p99 {quantile(times, 0.99):.1f} ms"
    print(f"{len(times)} creations, {flight} in flight: {row}" + (f"; refused: {refused}" if refused else ""))


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--template", default="code-interpreter")
    parser.add_argument("--rounds", type=int, default=20, help="creations per row")
    parser.add_argument("--calls", type=int, default=200, help="round trips per row")
    parser.add_argument("--claims", type=int, default=50, help="creations with 50 in flight; 0: none")
    parser.add_argument("--canned", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.canned:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(serve_canned())
        return
    missing = [name for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY") if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"set {', '.join(missing)}; `appliance env` prints the exports of a running box")
    api, sandboxes, key = (os.environ[name] for name in ("E2B_API_URL", "E2B_SANDBOX_URL", "E2B_API_KEY"))
    with canned() as url:
        box, floor = Side(api, sandboxes, key, options.template), Side(url, url, key, options.template)
        measure([box, floor], options.rounds, options.calls)
    report(box, floor)
    if options.claims:
        asyncio.run(claims(api, key, options.template, options.claims, min(50, options.claims)))


if __name__ == "__main__":
    main()
