"""Bad days of the gateway on a real box: crowds, clients that vanish, a reader that stalls, a sandbox that dies.

Nothing hangs, and the descriptors and the memory of the manager and of the runtime return to where they were.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from e2b import Sandbox, SandboxQuery
from footprint import descriptors, parent_of, pss, runtime_of
from waiting import eventually

from appliance.runtime.connect import envelope, wire
from appliance.runtime.process import messages

pytestmark = [pytest.mark.box, pytest.mark.timeout(300)]
TEMPLATE = "code-interpreter"
CROWD = 2000
MIB = 1 << 20
GIGABYTE = 1_000_000_000
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    env = box.env
    return {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}


@pytest.fixture
def sandbox(options: dict[str, Any]) -> Iterator[Sandbox]:
    """A sandbox of this test's own."""
    with Sandbox.create(TEMPLATE, timeout=600, **options) as made:
        yield made


def head(sandbox: Sandbox, line: str, *fields: str, port: int = 49983) -> bytes:
    """A request head to a port of a sandbox."""
    token = sandbox._envd_access_token or ""
    own = [f"E2b-Sandbox-Id: {sandbox.sandbox_id}", f"E2b-Sandbox-Port: {port}", f"X-Access-Token: {token}"]
    return "\r\n".join([f"{line} HTTP/1.1", "Host: a.test", *own, *fields, "", ""]).encode()


def settle(pid: int, before: int, spare: int, timeout: float = 30) -> None:
    """Wait until a process has no more descriptors than before, but for a few kept connections."""
    deadline = time.monotonic() + timeout
    while (now := descriptors(pid)) > before + spare:
        assert time.monotonic() < deadline, f"{now} descriptors, {before} before"
        time.sleep(0.1)


def test_two_thousand_idle_connections(box: RunningBox, sandbox: Sandbox, address: tuple[str, int]) -> None:
    """Silent, half a head, and kept alive after a request: others are served, and it all comes back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * CROWD)), hard))
    manager = box.role_pid("manager")
    whole = head(sandbox, "GET /health")
    assert sandbox.is_running()
    before, memory = descriptors(manager), pss(manager)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(socket.create_connection(address, timeout=30)) for _ in range(CROWD)]
        for one in crowd[:500]:
            one.sendall(whole[:40])
        for one in crowd[500:1000]:
            one.sendall(whole)
        for one in crowd[500:1000]:
            assert one.recv(4096).startswith(b"HTTP/1.1 204 ")
        assert descriptors(manager) >= before + CROWD
        assert pss(manager) - memory < CROWD * 32 * 1024
        assert sandbox.commands.run("echo here").stdout == "here\n"
        for one in crowd[:500]:
            one.sendall(whole[40:])
        assert {one.recv(4096)[:12] for one in crowd[:500]} == {b"HTTP/1.1 204"}
    settle(manager, before, 12)
    assert pss(manager) - memory < 24 * MIB
    assert sandbox.is_running()


def calls(sandbox: Sandbox, key: str) -> Iterator[bytes]:
    """One request for every kind of call of the control API and of the data plane."""

    def control(method: str, path: str, body: Any = None) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        fields = f"Host: a.test\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
        return f"{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n".encode() + data

    own = f"/sandboxes/{sandbox.sandbox_id}"
    made = {"templateID": TEMPLATE, "timeout": 3, "metadata": {"left": "behind"}}
    yield control("POST", "/sandboxes", made)
    yield control("POST", "/v2/sandboxes", made)
    yield from (control("GET", path) for path in ("/v2/sandboxes", own, f"{own}/metrics", f"{own}/logs", "/templates"))
    yield from (control("POST", f"{v}{own}/connect", {"timeout": 600}) for v in ("", "/v2"))
    yield control("POST", f"{own}/timeout", {"timeout": 600})
    yield control("PUT", f"{own}/network", {})
    cell = b'{"code": "import time; time.sleep(0.2); 1"}'
    yield head(sandbox, "POST /execute", f"Content-Length: {len(cell)}", port=49999) + cell
    yield head(sandbox, "GET /contexts", port=49999)
    chunk = b"%x\r\n%b\r\n" % (70_000, b"x" * 70_000)
    upload = ("Content-Type: application/octet-stream", "Transfer-Encoding: chunked")
    yield head(sandbox, "POST /files?path=left", *upload) + chunk * 3 + b"0\r\n\r\n"
    yield head(sandbox, "GET /files?path=/etc/passwd", "Accept-Encoding: gzip")
    yield head(sandbox, "GET /", port=8999)
    yield head(sandbox, "GET /", "Connection: Upgrade", "Upgrade: websocket", port=8999)


def test_clients_that_vanish_at_every_stage_of_every_call(
    box: RunningBox, sandbox: Sandbox, options: dict[str, Any], address: tuple[str, int]
) -> None:
    """Cut after each quarter of the request and after the first byte of the answer, by reset and by close."""
    manager, runtime = box.role_pid("manager"), runtime_of(sandbox)
    sandbox.files.write("warm", "x")
    before, inside = descriptors(manager), descriptors(runtime)
    for request in calls(sandbox, options["api_key"]):
        for quarter in range(1, 6):
            for reset in (True, False):
                with socket.create_connection(address, timeout=30) as client:
                    if reset:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    client.sendall(request[: len(request) * quarter // 4])
                    if quarter == 5:
                        assert client.recv(1).startswith(b"H"), request[:60]
    settle(manager, before, 12)
    settle(runtime, inside, 12)
    left = SandboxQuery(metadata={"left": "behind"})
    eventually(lambda: not Sandbox.list(query=left, **options).next_items())
    assert sandbox.commands.list() == []
    assert sandbox.commands.run("echo here").stdout == "here\n"
    assert Sandbox.connect(sandbox.sandbox_id, **options).get_info().state.value == "running"


def test_a_gigabyte_to_a_reader_that_stalls(box: RunningBox, sandbox: Sandbox, address: tuple[str, int]) -> None:
    """While nobody reads, the command waits and neither gateway nor runtime keeps its output; then every byte comes."""
    manager, runtime = box.role_pid("manager"), runtime_of(sandbox)
    held = {pid: (descriptors(pid), pss(pid)) for pid in (manager, runtime)}
    config = messages.ProcessConfig(cmd="/usr/bin/head", args=["-c", str(GIGABYTE), "/dev/zero"])
    request = envelope.frame(wire.encode(messages.StartRequest(process=config, stdin=False)))
    client = http.client.HTTPConnection(*address, timeout=60)
    token = sandbox._envd_access_token or ""
    fields = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983", "Connect-Timeout-Ms": "0",
              "X-Access-Token": token, "Content-Type": "application/connect+proto"}  # fmt: skip
    client.request("POST", "/process.Process/Start", request, fields)
    answer = client.getresponse()
    started = wire.decode(frame(answer), messages.EventResponse)
    assert started.event is not None and started.event.start is not None
    pid = started.event.start.pid

    def progress() -> str:
        return sandbox.commands.run(f"grep rchar /proc/{pid}/io", user="root").stdout

    def stuck() -> bool:
        """the command waits for its reader"""
        now = progress()
        return all(progress() == now for _ in range(5))

    eventually(stuck)
    for process, (_, memory) in held.items():
        assert pss(process) - memory < 24 * MIB
    printed, code = 0, None
    while code is None:
        event = wire.decode(frame(answer), messages.EventResponse).event
        assert event is not None
        if event.data is not None:
            printed += len(event.data.stdout or b"")
        if event.end is not None:
            code = event.end.exit_code
    assert (printed, code) == (GIGABYTE, 0)
    client.close()
    for process, (files, memory) in held.items():
        settle(process, files, 12)
        assert pss(process) - memory < 24 * MIB


def frame(answer: http.client.HTTPResponse) -> bytes:
    """The next message of a stream."""
    flags, size = struct.unpack("!BI", answer.read(5))
    assert flags == 0
    return answer.read(size)


def test_a_sandbox_whose_first_process_dies_comes_back_and_was_never_open(
    options: dict[str, Any], address: tuple[str, int]
) -> None:
    """kill -9 of its pid 1: streams end at once; nobody gets in until it is initialised; then its files are there, and
    its log says that its memory is not.
    """
    with Sandbox.create(TEMPLATE, timeout=600, envs={"OWN": "1"}, **options) as sandbox:
        sandbox.files.write("kept", "still here")
        with socket.create_connection(address, timeout=30) as waiting:
            body = b'{"code": "import time; time.sleep(600)"}'
            waiting.sendall(head(sandbox, "POST /execute", f"Content-Length: {len(body)}", port=49999) + body)
            assert waiting.recv(12) == b"HTTP/1.1 200"
            os.kill(parent_of(runtime_of(sandbox)), signal.SIGKILL)
            with contextlib.suppress(ConnectionResetError):
                while waiting.recv(65536):
                    pass
        fields = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
        seen: set[int] = set()
        with httpx.Client(base_url=options["sandbox_url"], headers=fields, trust_env=False, timeout=30) as stranger:

            def back() -> bool:
                """the sandbox is initialised again"""
                seen.add(stranger.get("/envs").status_code)
                return 401 in seen

            eventually(back)
        assert seen <= {401, 502, 503}
        assert sandbox.commands.run("cat kept; echo $OWN").stdout == "still here1\n"
        assert sandbox.get_info().state.value == "running"
        logs = f"{options['api_url']}/v2/sandboxes/{sandbox.sandbox_id}/logs?level=warn&search=restarted"

        def told() -> bool:
            """the log says what was lost"""
            answer = httpx.get(logs, headers={"X-API-Key": options["api_key"]}, timeout=30, trust_env=False)
            messages = [line["message"] for line in answer.json()["logs"]]
            return any("memory are lost, its files are kept" in message for message in messages)

        eventually(told, 60)
