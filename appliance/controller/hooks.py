"""Commands of ``spec.lifecycle``, run inside a sandbox by its runtime: ``/process.Process/Start`` as root.

A hook runs in a task of its own, so that no worker waits for it; its outcome is kept until the upgrade's name changes.
One that takes too long is killed by the runtime, which is told its deadline.
The answer is a stream of Connect frames (a flag byte, four bytes of length, JSON); what a sandbox says is not trusted:
sizes and time are limited.
"""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec

from appliance.api.labels import PORT_ENVD
from appliance.controller.world import Key

log = logging.getLogger(__name__)

TOLD = 1024
"""Characters of a failed hook's stderr in the condition."""
_MAX_FRAME = 4 * 1024 * 1024
_DEFAULT_TIMEOUT = 60.0
_LATE = 5.0
"""Seconds after a hook's deadline in which the runtime says that it has killed it."""
_END = 0x02


class Hooks:
    """Runs hooks and remembers how they ended; ``done`` is called with the sandbox's key after each."""

    def __init__(self, done: Callable[[Key], None], *, port: int = PORT_ENVD) -> None:
        self._done = done
        self._port = port
        self._running: dict[Key, tuple[str, asyncio.Task[None]]] = {}
        self._ended: dict[Key, tuple[str, str]] = {}

    def outcome(self, key: Key, name: str) -> str | None:
        """What went wrong with the hook of that name, empty for nothing; None while it has not ended."""
        known = self._ended.get(key)
        return known[1] if known is not None and known[0] == name else None

    def start(self, key: Key, name: str, ip: str, token: str | None, hook: dict[str, Any]) -> None:
        """Run it, unless that very hook runs already; one of another name is stopped."""
        running = self._running.get(key)
        if running is not None:
            if running[0] == name:
                return
            running[1].cancel()
        task = asyncio.create_task(self._run(key, name, ip, token, hook))
        self._running[key] = (name, task)

    def forget(self, key: Key) -> None:
        """The sandbox is gone."""
        self._ended.pop(key, None)
        running = self._running.pop(key, None)
        if running is not None:
            running[1].cancel()

    async def close(self) -> None:
        """Stop what runs."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, key: Key, name: str, ip: str, token: str | None, hook: dict[str, Any]) -> None:
        limit = float(hook.get("timeoutSeconds") or _DEFAULT_TIMEOUT)
        command = [str(part) for part in (hook.get("exec") or {}).get("command") or []]
        try:
            async with asyncio.timeout(limit + _LATE):
                problem = (
                    await execute(ip, self._port, token, command, limit)
                    if command
                    else "exec.command: expected a command"
                )
        except TimeoutError:
            problem = _too_long(limit)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            problem = f"the runtime could not run the hook: {type(error).__name__}: {error}"
        self._ended[key] = (name, problem)
        self._running.pop(key, None)
        self._done(key)


async def execute(ip: str, port: int, token: str | None, command: list[str], limit: float) -> str:
    """Run a command as root, for ``limit`` seconds at most; what went wrong, with the end of its stderr, or empty.

    Raises aiohttp.ClientError, OSError, ValueError when the runtime cannot be asked or does not answer as it should.
    """
    host = f"[{ip}]" if ":" in ip else ip
    body = msgspec.json.encode({"process": {"cmd": command[0], "args": command[1:], "envs": {}}})
    headers = {
        "Content-Type": "application/connect+json",
        "Connect-Protocol-Version": "1",
        "Connect-Timeout-Ms": str(int(limit * 1000)),
        "Authorization": "Basic " + base64.b64encode(b"root:").decode(),
        **({"X-Access-Token": token} if token else {}),
    }
    stderr = b""
    framed = b"\x00" + len(body).to_bytes(4, "big") + body
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.post(f"http://{host}:{port}/process.Process/Start", data=framed, headers=headers) as answer,
    ):
        if answer.status != 200:
            return f"the runtime answered {answer.status}: {(await answer.content.read(TOLD)).decode(errors='replace')}"
        async for flags, message in _frames(answer.content):
            if flags & _END:
                return _refusal(message.get("error") or {}, limit)
            event = message.get("event") or {}
            if piece := (event.get("data") or {}).get("stderr"):
                stderr = (stderr + base64.b64decode(piece))[-4 * TOLD :]
            if (end := event.get("end")) is not None:
                return _verdict(command, end, stderr.decode(errors="replace"))
    raise ValueError("the stream ended early")


def _refusal(error: dict[str, Any], limit: float) -> str:
    if error.get("code") == "deadline_exceeded":
        return _too_long(limit)
    if said := error.get("message"):
        return f"the runtime refused the hook: {said}"
    return "the runtime did not say how the hook ended"


def _too_long(limit: float) -> str:
    return f"the hook did not end within {limit:g} s"


def _verdict(command: list[str], end: dict[str, Any], stderr: str) -> str:
    code = int(end.get("exitCode") or 0)
    if code == 0 and not end.get("error"):
        return ""
    told = stderr.strip() or str(end.get("error") or end.get("status") or "")
    cut = told[:TOLD] + ("..." if len(told) > TOLD else "")
    return f"{command[0]} ended with exit code {code}" + (f": {cut}" if cut else "")


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    while True:
        try:
            head = await content.readexactly(5)
            size = int.from_bytes(head[1:], "big")
            if size > _MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes; the limit is {_MAX_FRAME}")
            data = await content.readexactly(size)
        except asyncio.IncompleteReadError as error:
            raise ValueError("the stream ended early") from error
        try:
            yield head[0], msgspec.json.decode(data, type=dict[str, Any]) if data else {}
        except msgspec.DecodeError as error:
            raise ValueError(f"a frame that is no JSON object: {error}") from error
