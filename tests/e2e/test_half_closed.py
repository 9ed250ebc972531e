"""Clients that close their sending side once they have asked, on a real box: answered if they still read (as netcat and
hand-made clients do), noticed at once if they do not.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from boxes import RunningBox
from e2b import Sandbox, SandboxQuery
from e2b_code_interpreter import Sandbox as Interpreter
from footprint import descriptors, runtime_of
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.timeout(120)]
TEMPLATE = "code-interpreter"
SERVER = """
import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(1)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"slow")
http.server.HTTPServer(("", 8000), Slow).serve_forever()
"""


@pytest.fixture(scope="module")
def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    env = box.env
    return {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}


@pytest.fixture(scope="module")
def sandbox(options: dict[str, Any]) -> Iterator[Interpreter]:
    """A sandbox for all of these."""
    with Interpreter.create(TEMPLATE, timeout=600, **options) as made:
        yield made


def to_port(sandbox: Sandbox, port: int, first: str, body: bytes = b"", *fields: str) -> bytes:
    """A request to a port of a sandbox."""
    token = sandbox._envd_access_token or ""
    own = [f"E2b-Sandbox-Id: {sandbox.sandbox_id}", f"E2b-Sandbox-Port: {port}", f"X-Access-Token: {token}"]
    lines = [f"{first} HTTP/1.1", "Host: a.test", *own, f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def framed(message: Any) -> bytes:
    """One message of a stream."""
    data = json.dumps(message).encode()
    return b"\0" + len(data).to_bytes(4, "big") + data


def create(options: dict[str, Any], metadata: dict[str, str]) -> bytes:
    """A create of a sandbox."""
    body = json.dumps({"templateID": TEMPLATE, "timeout": 60, "metadata": metadata}).encode()
    fields = ("Host: a.test", f"X-API-Key: {options['api_key']}", "Content-Type: application/json")
    return "\r\n".join(["POST /sandboxes HTTP/1.1", *fields, f"Content-Length: {len(body)}", "", ""]).encode() + body


def ask(address: tuple[str, int], request: bytes) -> bytes:
    """Send, close the sending side, read to the end."""
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        said = bytearray()
        while piece := client.recv(65536):
            said += piece
    return bytes(said)


def test_every_call_is_answered(sandbox: Interpreter, options: dict[str, Any], address: tuple[str, int]) -> None:
    """A command that is silent for long, an upload, a cell, a user's slow server, a create."""
    script = {"process": {"cmd": "/bin/sh", "args": ["-c", "sleep 3; echo late"]}}
    said = ask(
        address,
        to_port(
            sandbox, 49983, "POST /process.Process/Start", framed(script), "Content-Type: application/connect+json"
        ),
    )
    assert b"bGF0ZQo=" in said and b'"end"' in said
    upload = to_port(sandbox, 49983, "POST /files?path=half", b"whole", "Content-Type: application/octet-stream")
    assert ask(address, upload).startswith(b"HTTP/1.1 200 ")
    assert sandbox.files.read("half") == "whole"
    cell = json.dumps({"code": "import time; time.sleep(3); 41 + 1"}).encode()
    said = ask(address, to_port(sandbox, 49999, "POST /execute", cell))
    assert b'"text": "42"' in said or b'"text":"42"' in said
    assert b"end_of_execution" in said
    sandbox.files.write("slow.py", SERVER)
    sandbox.commands.run("python3 slow.py", background=True)

    def served() -> bool:
        """the user's server answers"""
        return ask(address, to_port(sandbox, 8000, "GET /")).endswith(b"slow")

    eventually(served)
    said = ask(address, create(options, {"half": "closed"}))
    assert said.startswith(b"HTTP/1.1 201 ")
    made = json.loads(said.partition(b"\r\n\r\n")[2])["sandboxID"]
    assert Sandbox.kill(made, **options)


def test_a_create_whose_client_has_left_leaves_nothing(options: dict[str, Any], address: tuple[str, int]) -> None:
    """Closed right after the request, or only for reading what had come: no sandbox stays."""
    for way in (socket.SHUT_RDWR, None):
        with socket.create_connection(address, timeout=30) as client:
            client.sendall(create(options, {"left": "at-once"}))
            if way is not None:
                client.shutdown(way)
    left = SandboxQuery(metadata={"left": "at-once"})
    said = ask(address, create(options, {"came": "later"}))  # what was taken before is there by now, or gone again
    assert Sandbox.kill(json.loads(said.partition(b"\r\n\r\n")[2])["sandboxID"], **options)
    eventually(lambda: not Sandbox.list(query=left, **options).next_items())


def test_a_cell_whose_client_has_left_is_interrupted(sandbox: Interpreter, address: tuple[str, int]) -> None:
    """A plain close in the middle of a silent cell frees the kernel at once; nothing of the connection stays."""
    runtime = runtime_of(sandbox)
    before = descriptors(runtime)
    cell = json.dumps({"code": "import time\nwhile True: time.sleep(1)"}).encode()
    with socket.create_connection(address, timeout=30) as client:
        client.sendall(to_port(sandbox, 49999, "POST /execute", cell))
        assert client.recv(12) == b"HTTP/1.1 200"
        with contextlib.suppress(TimeoutError):
            client.settimeout(0.5)
            client.recv(65536)  # the count of executions: the cell runs
    assert sandbox.run_code("1 + 1", timeout=20).text == "2"
    eventually(lambda: descriptors(runtime) <= before + 4)
