"""Probes: one attempt, and the counting of attempts. The schedule is Kubernetes' own: delay, period, thresholds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from appliance.embedded.node.podspec import Probe

Json = dict[str, Any]
Exec = Callable[[list[str], float], Awaitable[int]]


async def attempt(probe: Probe, ip: str, execute: Exec, ports: dict[str, int]) -> bool:
    """One try, within the probe's timeout. Never raises but ``CancelledError``."""
    try:
        async with asyncio.timeout(probe.timeout):
            if "httpGet" in probe.action:
                return await _http(probe.action["httpGet"], ip, ports)
            if "tcpSocket" in probe.action:
                return await _tcp(probe.action["tcpSocket"], ip, ports)
            return await execute(list(probe.action["exec"].get("command") or []), probe.timeout) == 0
    except Exception:
        return False


def _port(value: object, ports: dict[str, int]) -> int:
    return ports[value] if isinstance(value, str) and value in ports else int(str(value))


async def _tcp(action: Json, ip: str, ports: dict[str, int]) -> bool:
    _, writer = await asyncio.open_connection(action.get("host") or ip, _port(action["port"], ports))
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _http(action: Json, ip: str, ports: dict[str, int]) -> bool:
    """Status 200..399. HTTPS certificates are not verified, as in Kubernetes."""
    context = None
    if str(action.get("scheme") or "HTTP").upper() == "HTTPS":
        import ssl

        context = ssl._create_unverified_context()
    port = _port(action["port"], ports)
    reader, writer = await asyncio.open_connection(action.get("host") or ip, port, ssl=context)
    try:
        headers = {"Host": f"{ip}:{port}", "User-Agent": "appliance-probe", "Accept": "*/*", "Connection": "close"}
        headers |= {str(h["name"]): str(h["value"]) for h in action.get("httpHeaders") or []}
        lines = [f"GET {action.get('path') or '/'} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = (await reader.readline()).split(b" ")
        return len(status) > 1 and 200 <= int(status[1]) < 400
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class Prober:
    """Runs one probe until cancelled and calls ``decided(ok)`` at every change that the thresholds confirm."""

    def __init__(
        self, probe: Probe, once: bool, tryout: Callable[[Probe], Awaitable[bool]], paused: Callable[[], bool]
    ) -> None:
        self._probe = probe
        self._once = once
        self._tryout = tryout
        self._paused = paused

    async def run(self, decided: Callable[[bool], None]) -> bool:
        """With ``once`` (startup) returns the first decision; otherwise only ends by cancellation."""
        probe, count, last = self._probe, 0, None
        await asyncio.sleep(probe.initial_delay)
        while True:
            if not self._paused():
                ok = await self._tryout(probe)
                count = count + 1 if ok == last else 1
                last = ok
                if count >= (probe.success if ok else probe.failure):
                    decided(ok)
                    if self._once:
                        return ok
            await asyncio.sleep(probe.period)
