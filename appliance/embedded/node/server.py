"""The node's own HTTP on ``run/node.sock``: health, container logs, exec. The API server relays ``kubectl logs`` and
``exec`` here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from appliance.embedded.node.containers import ContainerRunner, Means
from appliance.embedded.node.remote_exec import serve_exec

if TYPE_CHECKING:
    from appliance.embedded.node.agent import Agent

_CHUNK = 256 * 1024
_FOLLOW = 0.2
"""Seconds between looks at a followed log."""


class NodeServer:
    """Start and stop with the agent; the socket file exists in between."""

    def __init__(self, path: Path, agent: Agent, means: Means) -> None:
        self._path, self._agent, self._means = path, agent, means
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        app.router.add_get("/exec/{namespace}/{pod}/{container}", self._exec)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Bind the socket, readable by the owner only."""
        self._path.unlink(missing_ok=True)
        await self._runner.setup()
        mask = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, str(self._path)).start()
        finally:
            os.umask(mask)

    async def stop(self) -> None:
        """End open streams and remove the socket."""
        await self._runner.cleanup()
        self._path.unlink(missing_ok=True)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "pods": len(self._agent.workers)})

    def _find(self, request: web.Request) -> ContainerRunner:
        where = request.match_info
        for worker in self._agent.workers.values():
            if (worker.spec.namespace, worker.spec.name) == (where["namespace"], where["pod"]):
                runner = worker.runners.get(where["container"])
                if runner is not None:
                    return runner
                text = f"container {where['container']!r} is not in pod {where['pod']!r}: {', '.join(worker.runners)}"
                raise web.HTTPBadRequest(text=text)
        raise web.HTTPNotFound(text=f"pod {where['namespace']}/{where['pod']} is not on this node")

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        runner = self._find(request)
        if runner.process is None:
            raise web.HTTPConflict(text=f"container {runner.container.name!r} has no running process on this node")
        return await serve_exec(request, self._means.executor, runner)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        runner = self._find(request)
        wish = LogWish.parse(request)
        path = self._means.records.path(runner.spec.uid) / f"{runner.container.name}.log"
        if wish.previous:
            path = path.with_name(path.name + ".previous")
            if not path.exists():
                raise web.HTTPBadRequest(text=f"previous terminated container {runner.container.name!r} not found")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        left = wish.limit
        position = 0
        for line in wish.select(read_lines(path)):
            piece = line[:left] if left is not None else line
            await response.write(piece)
            left = None if left is None else left - len(piece)
        if wish.follow:
            with suppress(FileNotFoundError):
                position = path.stat().st_size
            await self._follow(path, position, wish, response, runner)
        await response.write_eof()
        return response

    @staticmethod
    async def _follow(
        path: Path, position: int, wish: LogWish, response: web.StreamResponse, runner: ContainerRunner
    ) -> None:
        """Until the container ends for good or the client goes away (which cancels the handler or fails the write)."""
        while True:
            ended = runner.state.ended is not None or runner.stopping
            with suppress(FileNotFoundError), open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < position:
                    position = 0  # rotated: a new file
                file.seek(position)
                data = file.read(_CHUNK)
                whole = data[: data.rfind(b"\n") + 1]
                position += len(whole)
                for line in whole.splitlines(keepends=True):
                    await response.write(wish.show(line))
            if ended:
                return
            await asyncio.sleep(_FOLLOW)


def read_lines(path: Path) -> Iterator[bytes]:
    """Lines of the log, the rotated part first."""
    for part in (Path(f"{path}.1"), path):
        with suppress(FileNotFoundError), open(part, "rb") as file:
            yield from file


@dataclass(frozen=True, slots=True)
class LogWish:
    """The query of a log request."""

    follow: bool
    previous: bool
    timestamps: bool
    tail: int | None
    limit: int | None
    since: str
    """RFC 3339; lines before it are left out."""

    @classmethod
    def parse(cls, request: web.Request) -> LogWish:
        """Raises 400 naming the parameter."""
        query = request.query
        seconds = _number(query.get("sinceSeconds"), "sinceSeconds")
        since = query.get("sinceTime", "")
        if seconds is not None:
            since = datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        flags = {name: query.get(name, "false") in ("true", "1") for name in ("follow", "previous", "timestamps")}
        tail, limit = _number(query.get("tailLines"), "tailLines"), _number(query.get("limitBytes"), "limitBytes")
        return cls(**flags, tail=tail, limit=limit, since=since)

    def select(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        """What the request asked for, as shown."""
        from collections import deque

        kept: Iterator[bytes] = (line for line in lines if line[:32].decode(errors="replace") >= self.since)
        chosen = kept if self.tail is None else iter(deque(kept, self.tail))
        return (self.show(line) for line in chosen)

    def show(self, line: bytes) -> bytes:
        """Without our head (time, stream, tag), or with its time."""
        parts = line.split(b" ", 3)
        if len(parts) < 4:
            return line
        return parts[0] + b" " + parts[3] if self.timestamps else parts[3]


def _number(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    if not text.isdigit():
        raise web.HTTPBadRequest(text=f"{name}: expected a non-negative number, found {text!r}")
    return int(text)
