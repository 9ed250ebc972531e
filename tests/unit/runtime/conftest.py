"""A real runtime on free loopback ports, with a user of its own, and a client that speaks Connect by hand."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.runtime.server import Runtime
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState

USER_UID = 1000 if os.geteuid() == 0 else os.geteuid()
USER_GID = 1000 if os.geteuid() == 0 else os.getegid()


def frame(value: Any) -> bytes:
    """One Connect JSON frame."""
    data = json.dumps(value).encode()
    return b"\0" + len(data).to_bytes(4, "big") + data


@dataclass
class RecordingChannel:
    """Stands in for the supervisor."""

    saved: list[bytes] = field(default_factory=list)

    def save_state(self, state: bytes) -> None:
        self.saved.append(state)


class StreamError(Exception):
    """The error in a stream's last frame."""

    def __init__(self, error: dict[str, str]) -> None:
        super().__init__(error)
        self.code = error["code"]
        self.message = error.get("message", "")


class Stream:
    """An open server stream: iterate over its messages; ``close`` drops the connection."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._messages = self._read()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        return self._messages

    async def next(self) -> dict[str, Any]:
        """The next message's ``event``, or the message."""
        message = await anext(self._messages)
        return message.get("event", message)

    async def rest(self) -> list[dict[str, Any]]:
        """All remaining messages."""
        return [message async for message in self._messages]

    async def close(self) -> None:
        await self.response.aclose()

    async def _read(self) -> AsyncIterator[dict[str, Any]]:
        buffer = b""
        async for chunk in self.response.aiter_raw():
            buffer += chunk
            while len(buffer) >= 5 and len(buffer) >= 5 + int.from_bytes(buffer[1:5], "big"):
                size = int.from_bytes(buffer[1:5], "big")
                flags, data, buffer = buffer[0], json.loads(buffer[5 : 5 + size]), buffer[5 + size :]
                if flags & 2:
                    assert not buffer, "bytes after the last frame"
                    if "error" in data:
                        raise StreamError(data["error"])
                    return
                yield data
        raise AssertionError("the stream ended without a last frame")


@dataclass
class Envd:
    """A runtime and a client for it."""

    url: str
    http: httpx.AsyncClient
    state: RuntimeState
    settings: RuntimeSettings
    runtime: Runtime
    channel: RecordingChannel
    home: Path
    uid: int = USER_UID
    gid: int = USER_GID
    StreamError = StreamError
    frame = staticmethod(frame)

    def collect(self, messages: list[dict[str, Any]]) -> Finished:
        """See ``collect``."""
        return collect(messages)

    async def rpc(self, method: str, body: Any, **headers: str) -> httpx.Response:
        """A unary JSON call."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(f"/{method}", json=body, headers=named)

    async def open(self, method: str, body: Any, **headers: str) -> Stream:
        """A server stream."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["content-type"] = "application/connect+json"
        request = self.http.build_request("POST", f"/{method}", content=frame(body), headers=named)
        response = await self.http.send(request, stream=True)
        assert response.status_code == 200
        return Stream(response)

    async def start(self, *argv: str, headers: dict[str, str] | None = None, **request: Any) -> Stream:
        """Start a process; ``envs`` and ``cwd`` belong to its config."""
        process = {"cmd": argv[0], "args": list(argv[1:])}
        for name in ("envs", "cwd"):
            if name in request:
                process[name] = request.pop(name)
        return await self.open("process.Process/Start", {"process": process, **request}, **(headers or {}))

    async def run(self, *argv: str, headers: dict[str, str] | None = None, **request: Any) -> Finished:
        """Start a process and collect everything."""
        stream = await self.start(*argv, headers=headers, **request)
        return collect(await stream.rest())


@dataclass
class Finished:
    """What a process's stream said."""

    pid: int
    stdout: bytes
    stderr: bytes
    pty: bytes
    end: dict[str, Any]


def collect(messages: list[dict[str, Any]]) -> Finished:
    """Check the order (start first, one end last) and join the output."""
    events = [message["event"] for message in messages]
    assert "start" in events[0] and "end" in events[-1]
    assert all("data" in event or "keepalive" in event for event in events[1:-1])
    output = {"stdout": b"", "stderr": b"", "pty": b""}
    for event in events:
        for name, data in event.get("data", {}).items():
            output[name] += base64.b64decode(data)
    return Finished(events[0]["start"]["pid"], end=events[-1]["end"], **output)


@pytest.fixture
def home() -> Iterator[Path]:
    """The user's home, reachable for it (pytest's own directories are root's alone)."""
    directory = Path(tempfile.mkdtemp(prefix="runtime-test-"))
    directory.chmod(0o755)
    home = directory / "home"
    home.mkdir()
    os.chown(home, USER_UID, USER_GID)
    yield home
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def changes() -> dict[str, Any]:
    """Settings that differ; override in a module."""
    return {}


@pytest.fixture
def settings(home: Path, changes: dict[str, Any]) -> RuntimeSettings:
    """Settings with a private passwd."""
    return make_settings(home, **changes)


def make_settings(home: Path, **changes: Any) -> RuntimeSettings:
    """Free ports, ``user`` at home, root."""
    etc = home.parent / "etc"
    etc.mkdir(exist_ok=True)
    (etc / "passwd").write_text(
        f"root:x:0:0::/root:/bin/bash\nuser:x:{USER_UID}:{USER_GID}::{home}:/bin/bash\nother:x:1234:1234::/:/bin/sh\n"
    )
    (etc / "group").write_text(f"root:x:0:\nuser:x:{USER_GID}:\nvideo:x:44:user\n")
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "envd_port": 0,
        "tunnel_port": 0,
        "interpreter": False,
        "events": False,
        "etc": etc,
    }
    return RuntimeSettings(**(values | changes))


@pytest.fixture
async def envd(settings: RuntimeSettings, home: Path) -> AsyncIterator[Envd]:
    """A runtime that serves until the test is over; nothing of it may be left."""
    state, channel = RuntimeState(settings), RecordingChannel()
    runtime = Runtime(settings, state, channel)
    await runtime.start()
    url = f"http://127.0.0.1:{runtime.ports['envd']}"
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:
        yield Envd(url, http, state, settings, runtime, channel, home)
    await runtime.stop()
    left = [task for task in asyncio.all_tasks() if "appliance/" in repr(task)]
    assert not left, left
