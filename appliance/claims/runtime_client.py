"""The control plane's calls to the runtime inside a sandbox: /init, /freeze, /unfreeze on port 49983.

One short connection per call and nothing kept: a sandbox is initialised once in its life, and a pool of idle
connections to thousands of pods would be a cost without a use. The answer is read with a limit, because what is
inside a sandbox is not trusted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from appliance.api.labels import PORT_ENVD
from appliance.claims.errors import InitFailed

_RETRY_FIRST = 0.005
_RETRY_MAX = 0.2
_ATTEMPT_TIMEOUT = 2.0
"""Seconds for one try; a runtime that is there answers within milliseconds."""
_MAX_HEAD = 16 * 1024
_MAX_BODY = 4096


class Line:
    """A connection to a runtime, under way from ``after`` seconds on. ``hang_up`` ends it, in whatever state it is."""

    def __init__(self, ip: str, port: int, *, after: float = 0.0) -> None:
        self.ip = ip
        self._connecting = asyncio.create_task(_connect(ip, port, after))

    async def answered(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Both ends, once the connection is there. Raises OSError."""
        return await self._connecting

    def hang_up(self) -> None:
        """Close it; harmless when it was closed before."""
        if not self._connecting.cancel() and not self._connecting.cancelled() and not self._connecting.exception():
            self._connecting.result()[1].transport.abort()


class RuntimeClient:
    """Calls one runtime at a time; holds no state."""

    def __init__(self, *, port: int = PORT_ENVD) -> None:
        self._port = port

    def dial(self, ip: str) -> Line:
        """Connect to a runtime that will probably be called in a moment; whoever asks hangs up.

        What the caller does first is done first: connecting begins a millisecond later.
        """
        return Line(ip, self._port, after=0.001)

    async def init(
        self,
        ip: str,
        body: Mapping[str, Any],
        token: str | None,
        *,
        timeout: float = 10.0,
        line: Line | None = None,
    ) -> None:
        """Initialise the runtime at ``ip``; safe to repeat with the same body.

        ``token`` is sent as ``X-Access-Token`` too, so that a repetition after a lost answer is accepted. Retries
        from 5 ms on while nothing answers or the answer is 5xx, for ``timeout`` seconds in all. The first try takes
        the connection of ``line``, if it is one to ``ip``.

        Raises InitFailed, with ``refused`` set for a 4xx about the body. A 401 means that this runtime already holds
        another delivery's token: it must never be handed out, but another sandbox may do.
        """
        await self._post(ip, "/init", body, token, timeout, line)

    async def freeze(self, ip: str, token: str | None, *, timeout: float = 10.0) -> None:
        """Stop every process of the sandbox but the runtime itself. Raises InitFailed."""
        await self._post(ip, "/freeze", {}, token, timeout)

    async def unfreeze(self, ip: str, token: str | None, *, timeout: float = 10.0) -> None:
        """Continue what ``freeze`` stopped. Raises InitFailed."""
        await self._post(ip, "/unfreeze", {}, token, timeout)

    async def _post(
        self, ip: str, path: str, body: Mapping[str, Any], token: str | None, timeout: float, line: Line | None = None
    ) -> None:
        delay, last = _RETRY_FIRST, "no attempt was made"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    called, line = line if line is not None and line.ip == ip else Line(ip, self._port), None
                    try:
                        status, text = await self._attempt(called, path, body, token)
                    except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
                        last = f"{type(error).__name__}: {error}"
                    else:
                        if 200 <= status < 300:
                            return
                        last = f"{status} {text}".strip()
                        if status < 500:
                            raise InitFailed(_explain(ip, self._port, path, status, text), refused=status != 401)
                    finally:
                        called.hang_up()
                    await asyncio.sleep(delay)
                    delay = min(delay * 2, _RETRY_MAX)
        except TimeoutError as error:
            raise InitFailed(f"runtime at {ip}:{self._port}{path}: no success in {timeout:g} s ({last})") from error

    async def _attempt(self, line: Line, path: str, body: Mapping[str, Any], token: str | None) -> tuple[int, str]:
        """One request: status and the start of the body. Raises OSError, EOFError, ValueError (TimeoutError is one)."""
        async with asyncio.timeout(_ATTEMPT_TIMEOUT):
            reader, writer = await line.answered()
            writer.write(_request(line.ip, self._port, path, msgspec.json.encode(body), token))
            head = await reader.readuntil(b"\r\n\r\n")
            status = _status(head)
            text = b"" if 200 <= status < 300 else await reader.read(_MAX_BODY)
            return status, text.decode("utf-8", "replace").strip()


async def _connect(ip: str, port: int, after: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if after:
        await asyncio.sleep(after)
    return await asyncio.open_connection(ip, port, limit=_MAX_HEAD)


def _request(ip: str, port: int, path: str, body: bytes, token: str | None) -> bytes:
    host = f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    if token:
        lines.append(f"X-Access-Token: {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def _status(head: bytes) -> int:
    parts = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if len(parts) < 2 or not parts[0].startswith(b"HTTP/1.") or not parts[1].isdigit():
        raise ValueError(f"not an HTTP answer: {head[:60]!r}")
    return int(parts[1])


def _explain(ip: str, port: int, path: str, status: int, text: str) -> str:
    if status == 401:
        return f"runtime at {ip}:{port}{path} holds the token of another delivery (401); it must not be handed out"
    return f"runtime at {ip}:{port}{path} answered {status}: {text[:200]}"
