"""Speed of the runtime's envd side, each row beside a floor: a bare server on the same stack that answers at once.

Run: ``PYTHONPATH=. .venv/bin/python tests/bench/runtime_rpc.py``. Client and server share the machine's processors,
so read ratios.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path

from appliance.runtime.listener import Listener
from appliance.runtime.server import Runtime
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState

SIZE = 100 * 1024 * 1024


async def floor_app(scope, receive, send) -> None:
    """Reads the body and answers with nothing, or with ``SIZE`` zero bytes for a download."""
    while (await receive()).get("more_body"):
        pass
    size = SIZE if scope["path"] == "/files" and scope["method"] == "GET" else 2
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    piece = b"0" * min(size, 256 * 1024)
    for at in range(0, size, len(piece)):
        await send({"type": "http.response.body", "body": piece, "more_body": at + len(piece) < size})


def serve(pipe, home: str, floor: bool) -> None:
    async def main() -> None:
        etc = Path(home)
        (etc / "passwd").write_text(f"user:x:{os.getuid()}:{os.getgid()}::{home}:/bin/sh\n")
        settings = RuntimeSettings(host="127.0.0.1", envd_port=0, interpreter=False, tunnel=False, etc=etc)
        if floor:
            port = await Listener(floor_app, settings).start("127.0.0.1", 0)
        else:
            runtime = Runtime(settings, RuntimeState(settings))
            await runtime.start()
            port = runtime.ports["envd"]
        pipe.send(port)
        await asyncio.Event().wait()

    asyncio.run(main())


def exchange(sock: socket.socket, request: bytes) -> int:
    """Send a request, read the answer to its end; returns its size."""
    sock.sendall(request)
    data = b""
    while b"\r\n\r\n" not in data:
        data += sock.recv(1 << 20)
    head, _, body = data.partition(b"\r\n\r\n")
    lower = head.lower()
    if b"chunked" in lower:
        while not body.endswith(b"0\r\n\r\n"):
            body += sock.recv(1 << 20)
        return len(body)
    length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length: " in lower else 0
    got = len(body)
    buffer = bytearray(1 << 20)
    while got < length:
        got += sock.recv_into(buffer)
    return got


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def start(*argv: str) -> bytes:
    data = json.dumps({"process": {"cmd": argv[0], "args": argv[1:]}, "stdin": False}).encode()
    return request(
        "POST", "/process.Process/Start", b"\0" + len(data).to_bytes(4, "big") + data, "application/connect+json"
    )


def upload() -> bytes:
    zeros = bytes(SIZE)
    return request("POST", "/files?path=big", zeros, "application/octet-stream")


def multipart() -> bytes:
    body = (
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="big"\r\n\r\n' + bytes(SIZE) + b"\r\n--b--\r\n"
    )
    return request("POST", "/files", body, "multipart/form-data; boundary=b")


def measure(port: int, data: bytes, times: int) -> tuple[float, float]:
    """p50 and p99 in seconds."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchange(sock, data)
        spans = []
        for _ in range(times):
            began = time.perf_counter()
            exchange(sock, data)
            spans.append(time.perf_counter() - began)
    spans.sort()
    return spans[len(spans) // 2], spans[int(len(spans) * 0.99)]


ROWS = [
    ("GET /health", lambda: request("GET", "/health"), 2000, 0),
    ("Process/List", lambda: request("POST", "/process.Process/List", b"{}"), 1000, 0),
    ("Start /bin/true", lambda: start("/bin/true"), 300, 0),
    ("Start bash -l -c true", lambda: start("/bin/bash", "-l", "-c", "true"), 100, 0),
    ("Start, 10 MB of stdout", lambda: start("/usr/bin/head", "-c", "10000000", "/dev/zero"), 5, 10_000_000),
    ("POST /files octets 100 MiB", upload, 3, SIZE),
    ("POST /files multipart 100 MiB", multipart, 3, SIZE),
    ("GET /files 100 MiB", lambda: request("GET", "/files?path=big"), 5, SIZE),
]


def main() -> None:
    context = multiprocessing.get_context("fork")
    with tempfile.TemporaryDirectory() as home:
        ports, servers = [], []
        for floor in (False, True):
            ours, theirs = context.Pipe()
            servers.append(context.Process(target=serve, args=(theirs, home, floor), daemon=True))
            servers[-1].start()
            ports.append(ours.recv())
        print(f"{'':32} {'p50 ms':>9} {'p99 ms':>9} {'MB/s':>8} {'floor p50':>10} {'MB/s':>8}")
        for name, make, times, size in ROWS:
            data = make()
            (p50, p99), (bare, _) = measure(ports[0], data, times), measure(ports[1], data, times)
            rates = [f"{size / 1e6 / span:8.0f}" if size else " " * 8 for span in (p50, bare)]
            print(f"{name:32} {p50 * 1e3:9.3f} {p99 * 1e3:9.3f} {rates[0]} {bare * 1e3:10.3f} {rates[1]}")
        for server in servers:
            status = Path(f"/proc/{server.pid}/status").read_text()
            print("VmHWM", status.split("VmHWM:")[1].split("\n")[0].strip())
            server.terminate()
            server.join()


if __name__ == "__main__":
    main()
