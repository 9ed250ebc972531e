"""A scripted API server on loopback: each test says, request by request, what the day is like."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from appliance.config import KubeSettings
from appliance.kube.cluster import Cluster

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Script:
    """Answers requests in the order of ``steps``; the last step answers all later ones too."""

    def __init__(self) -> None:
        self.steps: list[Answer] = []
        self.seen: list[tuple[str, str, dict[str, str], bytes, dict[str, str]]] = []
        """(method, path, query, body, headers) of every request."""
        self.url = ""
        self.released = asyncio.Event()
        """Set at the end of the test: ends answers that hang on purpose."""

    def then(self, *steps: Answer) -> Script:
        self.steps += steps
        return self

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(
            (request.method, request.raw_path.split("?")[0], dict(request.query), body, dict(request.headers))
        )
        step = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        return await step(request)

    # What a step can be -----------------------------------------------------------------------------------------
    @staticmethod
    def json(body: Any, status: int = 200, **headers: str) -> Answer:
        async def step(_: web.Request) -> web.StreamResponse:
            return web.Response(body=json.dumps(body).encode(), status=status, headers=headers)

        return step

    @staticmethod
    def raw(body: bytes, status: int = 200) -> Answer:
        async def step(_: web.Request) -> web.StreamResponse:
            return web.Response(body=body, status=status)

        return step

    @classmethod
    def status(cls, code: int, reason: str = "", message: str = "no", **headers: str) -> Answer:
        return cls.json({"kind": "Status", "reason": reason, "message": message, "code": code}, code, **headers)

    @classmethod
    def page(cls, *items: dict[str, Any], version: str = "10", token: str = "") -> Answer:
        return cls.json({"metadata": {"resourceVersion": version, "continue": token}, "items": list(items)})

    def watch(self, *lines: bytes | dict[str, Any], end: str = "hang") -> Answer:
        """A watch that sends lines (dicts become lines, bytes go out as they are) and then hangs, ends or breaks."""

        async def step(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for line in lines:
                await response.write(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
            if end == "hang":
                await self.released.wait()
            elif end == "break":
                assert request.transport is not None
                request.transport.abort()
            return response

        return step

    def hang(self) -> Answer:
        async def step(_: web.Request) -> web.StreamResponse:
            await self.released.wait()
            return web.Response()

        return step

    def drop(self) -> Answer:
        async def step(request: web.Request) -> web.StreamResponse:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

        return step


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    script = Script()
    server = web.Server(script.answer)
    runner = web.ServerRunner(server, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    script.url = f"http://{host}:{port}"
    yield script
    script.released.set()
    await runner.cleanup()


def write_kubeconfig(path: Path, server: str, user: dict[str, Any]) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "x",
                "clusters": [{"name": "x", "cluster": {"server": server}}],
                "users": [{"name": "x", "user": user}],
                "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            }
        )
    )
    return path


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Callable[[str, dict[str, Any]], Path]:
    """Writes a kubeconfig for a server and a user section."""
    return lambda server, user: write_kubeconfig(tmp_path / "kubeconfig", server, user)


@pytest.fixture
async def cluster(script: Script, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster connected to the script, with short delays."""
    path = write_kubeconfig(tmp_path / "cluster.kubeconfig", script.url, {"token": "secret"})
    settings = KubeSettings(
        kubeconfig=path, request_timeout=5.0, watch_inactivity=5.0, backoff_initial=0.001, backoff_max=0.01
    )
    async with await Cluster.connect(settings) as cluster:
        yield cluster


class HandClock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._timers: list[list[Any]] = []

    def now(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        entry = [self._now + delay, callback, True]
        self._timers.append(entry)

        class Handle:
            def cancel(self) -> None:
                entry[2] = False

        return Handle()

    @property
    def pending(self) -> list[float]:
        """Seconds until each timer, sorted."""
        return sorted(round(due - self._now, 6) for due, _, live in self._timers if live)

    async def advance(self, seconds: float) -> None:
        """Move on, calling what is due, and let the tasks it woke run."""
        self._now += seconds
        due = [entry for entry in self._timers if entry[2] and entry[0] <= self._now]
        self._timers = [entry for entry in self._timers if entry[2] and entry[0] > self._now]
        for _, callback, _ in sorted(due, key=lambda entry: entry[0]):
            callback()
        await settle()


async def settle() -> None:
    """Let every task run until nothing is left to do without I/O."""
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()
