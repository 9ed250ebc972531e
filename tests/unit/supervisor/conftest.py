"""A whole sandbox as a subprocess: the real supervisor, server and kernel, on loopback ports of their own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
from appliance.runtime import supervisor
from appliance.runtime.settings import RuntimeSettings
given = json.loads(sys.argv[1])
main = given.pop("main")
supervisor.preload()
command = supervisor.MainCommand(argv=tuple(main), env={"PATH": "/usr/bin:/bin"}) if main else None
supervisor.run(RuntimeSettings(**given), command)
"""


class Sandbox:
    """One running supervisor."""

    def __init__(self, main: list[str] | None = None, env: dict[str, str] | None = None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe, socket.create_server(("127.0.0.1", 0)) as other:
            self.port, self.envd_port = probe.getsockname()[1], other.getsockname()[1]
        given = {
            "host": "127.0.0.1",
            "envd_port": self.envd_port,
            "interpreter_port": self.port,
            "tunnel": False,
            "default_user": None,
            "main": main,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(given)],
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )

    def wait_warm(self) -> None:
        """Return once /health is 200; fails after 30 s."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "/health")[0] == 200:
                    return
            except OSError:
                pass
        raise AssertionError("the interpreter did not become warm")

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """One request; status and the parsed JSON or the text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text

    def run(self, code: str, **body: Any) -> list[dict[str, Any]]:
        """Execute code; the events of the stream without the terminator, which must be there."""
        status, text = self.call("POST", "/execute", {"code": code, **body})
        lines = [json.loads(line) for line in text.splitlines()] if isinstance(text, str) else [text]
        assert (status, lines[-1]) == (200, {"type": "end_of_execution"})
        return lines[:-1]

    def text(self, code: str, **body: Any) -> str | None:
        """The main result's text."""
        return next((event["text"] for event in self.run(code, **body) if event.get("is_main_result")), None)

    @property
    def children(self) -> list[int]:
        """Pids of the supervisor's children, oldest first: the server, then kernels."""
        pid = self.process.pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def close(self) -> None:
        """Stop it, by force if need be."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A warm sandbox of this test's own."""
    made = Sandbox()
    try:
        made.wait_warm()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """A warm sandbox for tests that leave it as they found it."""
    made = Sandbox()
    try:
        made.wait_warm()
        yield made
    finally:
        made.close()


@pytest.fixture
def sandbox_class() -> type[Sandbox]:
    """For tests that start one with a main command."""
    return Sandbox
