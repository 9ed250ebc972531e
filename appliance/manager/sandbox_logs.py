"""A sandbox's log as the E2B API returns it: the journal's lines and the container's output, in order of time.

The container's output comes from the cluster's pod log, bounded in lines and bytes; a pod that is gone or a cluster
that does not answer adds none. A line that is a JSON object with a message keeps its level and fields, any other is an
``info`` line: clients parse ``line`` as JSON and read ``level`` and ``logger`` from it (contract §1.17).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from appliance.api import times
from appliance.api.kinds import POD
from appliance.api.structs import Sandbox
from appliance.kube.cluster import Cluster
from appliance.kube.errors import KubeError
from appliance.manager.journal import MAX_MESSAGE, MAX_SANDBOXES, Journal, Line, Record
from appliance.manager.roster import Entry
from appliance.manager.runstate import Run

LEVELS = ("debug", "info", "warn", "error")
TAIL = 500
"""Lines of a container's output that are asked for."""
MAX_OUTPUT = 512 * 1024
"""Bytes of it."""
MAX_KEEPING = 16
"""Outputs copied at once; when more sandboxes are killed at the same time, the others' output is not kept."""
TIMEOUT = 2.0
"""Seconds that the cluster gets for it."""


@dataclass(frozen=True)
class Question:
    """Which lines somebody wants."""

    start: datetime | None = None
    """From this instant on; read backward: up to it."""
    limit: int = 1000
    backward: bool = False
    level: str = "debug"
    """The lowest level wanted."""
    search: str = ""


class SandboxLogs:
    """Reads logs; keeps the output of a sandbox that ends, whoever ends it: as an observer of the roster.

    So every manager does. A pod outlives its Sandbox by a moment only: what the pod's end overtakes is not kept.
    """

    def __init__(self, cluster: Cluster, journal: Journal) -> None:
        self._cluster = cluster
        self._journal = journal
        self._keeping: set[asyncio.Task[None]] = set()
        self._kept: OrderedDict[str, None] = OrderedDict()

    async def read(self, record: Record, sandbox: Sandbox | None, question: Question) -> list[Line]:
        """The lines asked for; ``sandbox`` None: it has ended."""
        lines = list(record.lines)
        if sandbox is not None:
            lines += await self._output(sandbox)
        return select(lines, question)

    def keep_soon(self, sandbox_id: str, sandbox: Sandbox) -> None:
        """Copy the container's output into the journal once, beside whatever ends the pod: its end takes longer."""
        if len(self._keeping) < MAX_KEEPING and sandbox_id not in self._kept:
            self._kept[sandbox_id] = None
            if len(self._kept) > MAX_SANDBOXES:
                self._kept.popitem(last=False)
            task = asyncio.create_task(self._keep(sandbox_id, sandbox))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    def moved(self, entry: Entry, before: Run | None, run: Run) -> None:
        """The roster saw a sandbox change its state."""
        if run is Run.GONE and before not in (None, Run.GONE):
            self.keep_soon(entry.sandbox_id, entry.sandbox)

    def ended(self, entry: Entry, *, killed: bool) -> None:
        """The sandbox is gone."""
        self.keep_soon(entry.sandbox_id, entry.sandbox)

    async def drain(self) -> None:
        """Wait for the copies under way; each is bounded."""
        await asyncio.gather(*self._keeping)

    async def _keep(self, sandbox_id: str, sandbox: Sandbox) -> None:
        self._journal.add(sandbox_id, await self._output(sandbox))

    async def _output(self, sandbox: Sandbox) -> list[Line]:
        try:
            async with asyncio.timeout(TIMEOUT):
                pod = await self._cluster.get(POD, sandbox.namespace, sandbox.name)
                containers = pod.spec.containers or [{}]
                name = str(containers[0].get("name", ""))
                text = await self._cluster.pod_log(
                    sandbox.namespace, sandbox.name, container=name, tail=TAIL, limit=MAX_OUTPUT
                )
        except (KubeError, TimeoutError):
            return []
        return [line for line in (_line(one, name) for one in text.splitlines()) if line is not None]


def select(lines: Iterable[Line], question: Question) -> list[Line]:
    """Filter, order, cut; pure."""
    lowest = LEVELS.index(question.level)
    found = [one for one in lines if LEVELS.index(one.level) >= lowest and question.search in one.message]
    inside: Callable[[Line], bool] = lambda one: True  # noqa: E731  # three cases of one predicate
    if (start := question.start) is not None:
        inside = (lambda one: one.at <= start) if question.backward else (lambda one: one.at >= start)
    ordered = sorted(filter(inside, found), key=lambda one: one.at, reverse=question.backward)
    return ordered[: question.limit]


def render(line: Line) -> dict[str, Any]:
    """``SandboxLogEntry``."""
    stamp = times.format(line.at, micro=True)
    return {"timestamp": stamp, "level": line.level, "message": line.message, "fields": dict(line.fields)}


def render_v1(lines: Iterable[Line]) -> dict[str, Any]:
    """The old form: each line is JSON text."""
    entries = [render(one) for one in lines]
    logs = [{"timestamp": one["timestamp"], "line": _flat(one)} for one in entries]
    return {"logs": logs, "logEntries": entries}


def _flat(entry: dict[str, Any]) -> str:
    plain = {key: entry[key] for key in ("timestamp", "level", "message")}
    return msgspec.json.encode({"logger": "sandbox", **entry["fields"], **plain}).decode()


def _line(text: str, container: str) -> Line | None:
    """``<RFC 3339> <text>`` as the cluster writes it."""
    stamp, _, rest = text.partition(" ")
    at = times.parse_or_none(stamp)
    if at is None or not rest.strip():
        return None
    fields = {"logger": container or "container"}
    try:
        given = msgspec.json.decode(rest, type=dict[str, Any])
        message = given.pop("message")
    except (msgspec.DecodeError, KeyError):
        return Line(at, rest[:MAX_MESSAGE], fields=fields)
    level = str(given.pop("level", "info")).lower()
    fields |= {str(key)[:64]: str(value)[:256] for key, value in list(given.items())[:20]}
    return Line(at, str(message)[:MAX_MESSAGE], level if level in LEVELS else "info", fields)
