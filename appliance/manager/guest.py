"""Resource figures of sandboxes, asked of the runtime inside each: its ``GET /metrics`` on the envd port.

``sampler.py`` asks in the background, as often as its budget allows; a request for metrics whose last sample is old
takes one too (shared by concurrent requests, at most one per ``INTERVAL`` per sandbox). The last ``KEPT`` stay, also
after the sandbox's end, until others need the room. What a runtime says is not trusted: size, time and types are
limited.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import aiohttp
import msgspec

from appliance.api import times
from appliance.api.labels import PORT_ENVD
from appliance.manager.errors import Fault
from appliance.manager.roster import Entry

INTERVAL = 5.0
"""Seconds between two samples of one sandbox."""
KEPT = 120
"""Samples kept per sandbox."""
MAX_SANDBOXES = 1000
"""Sandboxes whose history is kept; the one not asked for longest is forgotten first."""
MAX_ASKED = 20_000
"""Sandboxes of which the instant of the last question is remembered."""
TIMEOUT = 3.0
MAX_BODY = 16 * 1024


class RuntimeMetrics(msgspec.Struct, frozen=True):
    """The runtime's answer (envd 0.6): bytes, and percent of one core."""

    ts: int
    cpu_count: int
    cpu_used_pct: float
    mem_total: int
    mem_used: int
    disk_total: int
    disk_used: int
    mem_cache: int = 0


class Guests:
    """Asks runtimes, and remembers what they said."""

    def __init__(self, session: aiohttp.ClientSession, now: Callable[[], datetime]) -> None:
        self._session = session
        self._now = now
        self._history: OrderedDict[str, deque[RuntimeMetrics]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._asked: OrderedDict[str, float] = OrderedDict()

    async def metrics(self, entry: Entry, *, running: bool) -> Sequence[RuntimeMetrics]:
        """The samples kept of a sandbox, oldest first, after a fresh one if it runs and the last one is old."""
        history = self._history.get(entry.sandbox_id)
        fresh = history and self._now().timestamp() - history[-1].ts < INTERVAL
        if running and entry.address and not fresh:
            await self.sample(entry)
        return self.history(entry.sandbox_id)

    def history(self, sandbox_id: str) -> Sequence[RuntimeMetrics]:
        """The samples kept of a sandbox, also of an ended one, oldest first."""
        return tuple(self._history.get(sandbox_id, ()))

    def restore(self, sandbox_id: str, samples: Iterable[RuntimeMetrics]) -> None:
        """Take over the samples that an earlier manager had of a sandbox."""
        if kept := deque(samples, maxlen=KEPT):
            self._history[sandbox_id] = kept

    def due(self, entries: Iterable[Entry]) -> list[Entry]:
        """Those that were not asked within ``INTERVAL``, longest ago first."""
        now = self._now().timestamp()
        aged = [(self._asked.get(one.sandbox_id, 0.0), one) for one in entries]
        return [one for asked, one in sorted(aged, key=lambda pair: pair[0]) if now - asked >= INTERVAL]

    async def check_health(self, entry: Entry) -> None:
        """Raise Fault 503 unless the runtime answers: a pause that needs that is refused, nothing changes."""
        try:
            async with self._session.get(_url(entry, "/health"), timeout=_timeout()) as answer:
                healthy = 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            healthy = False
        if not healthy:
            message = f'The guest agent of sandbox "{entry.sandbox_id}" does not answer'
            raise Fault(
                503,
                message,
                error_code="sandbox_snapshot_guest_agent_unresponsive",
                headers={"Retry-After": "1", "Should-Retry": "false"},
            )

    async def sample(self, entry: Entry) -> None:
        """Ask once; concurrent calls share the question."""
        task = self._asking.get(entry.sandbox_id)
        if task is None:
            task = asyncio.create_task(self._ask(entry))
            self._asking[entry.sandbox_id] = task
            task.add_done_callback(lambda _: self._asking.pop(entry.sandbox_id, None))
        await asyncio.shield(task)

    async def _ask(self, entry: Entry) -> None:
        """Add one sample; a runtime that does not answer, or not in that form, adds none."""
        self._asked[entry.sandbox_id] = self._now().timestamp()
        self._asked.move_to_end(entry.sandbox_id)
        while len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        headers = {"X-Access-Token": entry.token} if entry.token else {}
        try:
            url = _url(entry, "/metrics")
            async with self._session.get(url, headers=headers, timeout=_timeout()) as answer:
                body = await answer.content.read(MAX_BODY)
            sample = msgspec.json.decode(body, type=RuntimeMetrics)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
            return
        history = self._history.setdefault(entry.sandbox_id, deque(maxlen=KEPT))
        if not history or sample.ts > history[-1].ts:
            history.append(sample)
        self._history.move_to_end(entry.sandbox_id)
        while len(self._history) > MAX_SANDBOXES:
            self._history.popitem(last=False)


def render(sample: RuntimeMetrics) -> dict[str, Any]:
    """``SandboxMetric``."""
    return {
        "timestamp": times.format(datetime.fromtimestamp(sample.ts, tz=times.now().tzinfo)),
        "timestampUnix": sample.ts,
        "cpuCount": sample.cpu_count,
        "cpuUsedPct": sample.cpu_used_pct,
        "memUsed": sample.mem_used,
        "memTotal": sample.mem_total,
        "memCache": sample.mem_cache,
        "diskUsed": sample.disk_used,
        "diskTotal": sample.disk_total,
    }


def _url(entry: Entry, path: str) -> str:
    host = f"[{entry.address}]" if ":" in entry.address else entry.address
    return f"http://{host}:{PORT_ENVD}{path}"


def _timeout() -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=TIMEOUT)
