"""The gateway beside nginx and beside no proxy at all: requests per second, bytes per second, memory per connection.

Run it with ``.venv/bin/python tests/bench/gateway_vs_nginx.py`` (needs ``nginx`` and ``wrk``: apt-get install -y
nginx-light wrk). Everything listens on loopback, on free ports, below a temporary directory. All contestants stand in
front of the same upstream; runs are interleaved and medians are compared, so that a busy machine hits all alike.
Goals (issue 3): requests/s at least half of nginx with one worker, bytes/s at least 0.8 of direct.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ID = "iabcdefghij0123456789"
MIB = 1 << 20
HEADERS = {
    "E2b-Sandbox-Id": ID,
    "E2b-Sandbox-Port": "8000",
    "X-Access-Token": "0123456789abcdef" * 4,
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate",
    "User-Agent": "e2b-python-sdk/2.63.0",
}
NGINX = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  keepalive_requests 1000000000; client_max_body_size 0; tcp_nodelay on;
  {body}
}}
"""
UPSTREAM = "server {{ listen 127.0.0.1:{port}; location / {{ default_type text/plain; return 200 '{text}'; }} }}"
PROXY = """
  upstream up {{ server 127.0.0.1:{up}; keepalive 128; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port}; location / {{
    proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
    proxy_buffering off; proxy_request_buffering off; }} }}
"""


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_port(port: int) -> None:
    """Until something listens, at most ten seconds."""
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def process(*argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child, ended at the end."""
    child = subprocess.Popen(argv)
    try:
        yield child
    finally:
        child.terminate()
        child.wait(10)


@contextlib.contextmanager
def nginx(body: str) -> Iterator[subprocess.Popen[bytes]]:
    """nginx with one worker and a prefix of its own."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "nginx.conf")
        config.write_text(NGINX.format(dir=folder, body=body))
        with process("nginx", "-e", f"{folder}/start.log", "-p", folder, "-c", str(config)) as child:
            yield child


# Roles of child processes -----------------------------------------------------------------------------------------


def serve_gateway(port: int, upstream: int) -> None:
    """The gateway, with every sandbox at the one upstream."""
    from appliance.config import GatewaySettings
    from appliance.gateway import Gateway, Refusal, Route

    route = Route(ID, "127.0.0.1", upstream, None, None, None, 1)

    class Routes:
        def resolve(self, sandbox_id: str, port: int) -> Route | Refusal:
            return route

        async def refresh(self, sandbox_id: str) -> None:
            return None

        async def wake(self, sandbox_id: str) -> bool:
            return False

    async def main() -> None:
        gateway = Gateway(GatewaySettings(listen=f"127.0.0.1:{port}"), Routes(), Path("/nonexistent"))
        await gateway.start()
        await asyncio.Event().wait()

    asyncio.run(main())


def serve_blocks(port: int) -> None:
    """GET /N answers N bytes; PUT reads its body; a thread and blocking sockets for each connection."""
    with socket.create_server(("127.0.0.1", port), backlog=16) as server:
        while True:
            threading.Thread(target=_blocks, args=(server.accept()[0],), daemon=True).start()


def _blocks(peer: socket.socket) -> None:
    block, scratch = bytes(MIB), bytearray(MIB)
    with peer, contextlib.suppress(OSError):
        while head := peer.recv(65536):
            while b"\r\n\r\n" not in head:
                head += peer.recv(65536)
            if head.startswith(b"GET /"):
                size = int(head.split()[1][1:] or b"0")
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
                for _ in range(size // MIB):
                    peer.sendall(block)
            else:
                found = re.search(rb"(?i)content-length: (\d+)", head)
                left = int(found[1]) if found else 0
                left -= len(head.partition(b"\r\n\r\n")[2])
                while left > 0:
                    left -= peer.recv_into(scratch)
                peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def serve_asgi(port: int) -> None:
    """GET /N answers N bytes in blocks of 256 KiB, PUT reads its body: uvicorn, as in a sandbox's runtime."""
    import uvicorn

    async def app(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        size = int(scope["path"][1:] or b"0") if scope["method"] == "GET" else 0
        while scope["method"] == "PUT" and (await receive()).get("more_body"):
            pass
        fields = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        block = bytes(MIB // 4)
        for left in range(size, 0, -len(block)):
            await send({"type": "http.response.body", "body": block[:left], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    uvicorn.run(
        app, port=port, http="httptools", loop="asyncio", lifespan="off", log_level="critical", access_log=False
    )


def serve_websockets(port: int) -> None:
    """Answers every upgrade and then says nothing."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not await reader.readline():
            return
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        await reader.read()
        writer.close()

    async def main() -> None:
        await (await asyncio.start_server(handler, "127.0.0.1", port, backlog=1024)).serve_forever()

    asyncio.run(main())


# Measurements -----------------------------------------------------------------------------------------------------


def wrk(port: int, connections: int, seconds: int) -> float:
    """Requests per second."""
    fields = [x for key, value in HEADERS.items() for x in ("-H", f"{key}: {value}")]
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *fields, f"http://127.0.0.1:{port}/health"]
    text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"wrk saw errors:\n{text}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found is not None
    return float(found[1])


def transfer(port: int, size: int, *, upload: bool) -> float:
    """MB/s of one body; the clock runs from the request to the last byte."""
    fields = "".join(f"{key}: {value}\r\n" for key, value in HEADERS.items())
    scratch = bytearray(MIB)
    with socket.create_connection(("127.0.0.1", port)) as peer:
        start = time.perf_counter()
        if upload:
            peer.sendall(f"PUT / HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {size}\r\n\r\n".encode())
            for _ in range(size // MIB):
                peer.sendall(scratch)
            assert b" 200 " in peer.recv(65536)
        else:
            peer.sendall(f"GET /{size} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
            head = peer.recv(4096)
            while b"\r\n\r\n" not in head:
                head += peer.recv(4096)
            assert b" 200 " in head[:20], head
            left = size - len(head.partition(b"\r\n\r\n")[2])
            while left > 0 and (got := peer.recv_into(scratch)):
                left -= got
        return size / (time.perf_counter() - start) / 1e6


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def interleave(runs: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Median per contestant; every round runs each once."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            found[name].append(run())
    return {name: statistics.median(values) for name, values in found.items()}


def me(role: str, *ports: int) -> tuple[str, ...]:
    """This file as a child."""
    return (sys.executable, __file__, "--role", role, *map(str, ports))


def bench_requests(rounds: int, seconds: int) -> None:
    """Small answers over kept connections."""
    print(f"\n{'requests/s':<22}{'direct':>10}{'nginx':>10}{'gateway':>10}{'ratio':>8}{'µs CPU each':>13}")
    up, front, ours = free_port(), free_port(), free_port()
    upstream = UPSTREAM.format(port=up, text="x" * 200)
    with nginx(upstream), nginx(PROXY.format(up=up, port=front)), process(*me("gateway", ours, up)) as gateway:
        for port in (up, front, ours):
            wait_port(port)
        for connections in (1, 8, 64):
            used = [0.0, 0.0]

            def gatewayed(connections: int = connections, used: list[float] = used) -> float:
                before = cpu_seconds(gateway.pid)
                rate = wrk(ours, connections, seconds)
                used[0] += cpu_seconds(gateway.pid) - before
                used[1] += rate * seconds
                return rate

            runs: dict[str, Callable[[], float]] = {
                "direct": lambda c=connections: wrk(up, c, seconds),  # type: ignore[misc]
                "nginx": lambda c=connections: wrk(front, c, seconds),  # type: ignore[misc]
                "gateway": gatewayed,
            }
            got = interleave(runs, rounds)
            ratio, each = got["gateway"] / got["nginx"], used[0] / used[1] * 1e6
            row = "".join(f"{got[name]:>10,.0f}" for name in ("direct", "nginx", "gateway"))
            print(f"{connections:>3} connections       {row}{ratio:>8.2f}{each:>13.1f}", flush=True)
        print(f"goal: ratio to nginx >= 0.5. Gateway RSS after this: {rss(gateway.pid) / MIB:.1f} MiB")


def bench_bytes(rounds: int, size: int) -> None:
    """Large bodies, one connection, from a bare socket loop and from the kind of server that runs in a sandbox."""
    print(f"\n{'MB/s':<26}{'direct':>10}{'nginx':>10}{'gateway':>10}{'ratio':>8}{'ms CPU/GB':>11}")
    for server in ("blocks", "asgi"):
        up, front, ours = free_port(), free_port(), free_port()
        with process(*me(server, up)):
            wait_port(up)
            with nginx(PROXY.format(up=up, port=front)), process(*me("gateway", ours, up)) as gateway:
                wait_port(ours)
                wait_port(front)
                for upload in (False, True):
                    runs: dict[str, Callable[[], float]] = {
                        name: lambda p=port, u=upload: transfer(p, size, upload=u)  # type: ignore[misc]
                        for name, port in (("direct", up), ("nginx", front), ("gateway", ours))
                    }
                    before = cpu_seconds(gateway.pid)
                    got = interleave(runs, rounds)
                    each = (cpu_seconds(gateway.pid) - before) / (size * rounds) * 1e12
                    row = "".join(f"{got[name]:>10,.0f}" for name in ("direct", "nginx", "gateway"))
                    name = f"{'upload to' if upload else 'download from'} {server}"
                    print(f"{name:<26}{row}{got['gateway'] / got['direct']:>8.2f}{each:>11.0f}", flush=True)
    print("goal: ratio to direct >= 0.8")


async def _open_websockets(port: int, count: int, pid: int) -> float:
    fields = "".join(f"{key}: {value}\r\n" for key, value in HEADERS.items())
    head = f"GET / HTTP/1.1\r\nHost: x\r\n{fields}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n".encode()
    before, writers = rss(pid), []
    for _ in range(count):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        assert b" 101 " in await reader.readuntil(b"\r\n\r\n")
        writers.append(writer)
    grown = (rss(pid) - before) / count
    for writer in writers:
        writer.transport.abort()
    return grown


def bench_idle(count: int) -> None:
    """Memory of idle WebSockets."""
    up, ours = free_port(), free_port()
    with process(*me("websockets", up)), process(*me("gateway", ours, up)) as gateway:
        wait_port(up)
        wait_port(ours)
        used = cpu_seconds(gateway.pid)
        grown = asyncio.run(_open_websockets(ours, count, gateway.pid))
        used = cpu_seconds(gateway.pid) - used
        print(f"\n{count} idle WebSockets: {grown / 1024:.1f} KiB each, {used / count * 1e6:.0f} µs CPU each to open")


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--size", type=int, default=512, help="MiB of one large body")
    parser.add_argument("--only", choices=["requests", "bytes", "idle"])
    parser.add_argument("--role", choices=["gateway", "blocks", "asgi", "websockets"], help=argparse.SUPPRESS)
    parser.add_argument("ports", type=int, nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    roles = {
        "gateway": serve_gateway,
        "blocks": serve_blocks,
        "asgi": serve_asgi,
        "websockets": serve_websockets,
    }
    if options.role is not None:
        with contextlib.suppress(KeyboardInterrupt):
            roles[options.role](*options.ports)
        return
    missing = [name for name in ("nginx", "wrk") if shutil.which(name) is None]
    if missing:
        raise SystemExit(f"missing: {', '.join(missing)}; apt-get install -y nginx-light wrk")
    if options.only in (None, "requests"):
        bench_requests(options.rounds, options.seconds)
    if options.only in (None, "bytes"):
        bench_bytes(options.rounds, options.size * MIB)
    if options.only in (None, "idle"):
        bench_idle(1000)


if __name__ == "__main__":
    main()
