"""Events: what users see under ``kubectl describe``, written in the background at a bounded rate.

Telling is never worth delaying the deed: ``say`` only queues. The same words about the same object are told once a
minute; when the queue is full the event is dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from datetime import datetime
from typing import Any

from appliance.api import kinds, times
from appliance.api.kinds import Kind
from appliance.api.structs import Object
from appliance.kube import errors
from appliance.kube.cluster import Cluster

log = logging.getLogger(__name__)

_QUEUE = 512
_RECENT = 4096
_QUIET = 60.0
"""Seconds for which the same event is not repeated."""
_PER_SECOND = 20.0
_MESSAGE_LIMIT = 1024
"""Characters of a message, as the API server demands."""


class EventRecorder:
    """Writes core/v1 Events. Run ``run`` in a task; until then events wait in the queue."""

    def __init__(self, cluster: Cluster, *, component: str = "appliance-controller") -> None:
        self._cluster = cluster
        self._component = component
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(_QUEUE)
        self._recent: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self.dropped = 0

    def say(self, kind: Kind[Any], about: Object, reason: str, message: str, *, warning: bool = True) -> None:
        """Queue one event about an object. ``reason`` is a CamelCase word."""
        key = (about.uid, reason, message)
        now = time.monotonic()
        if now - self._recent.get(key, -_QUIET) < _QUIET:
            return
        self._recent[key] = now
        self._recent.move_to_end(key)
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)
        level = "Warning" if warning else "Normal"
        log.info("%s %s/%s: %s: %s", kind.kind, about.namespace, about.name, reason, message)
        try:
            self._queue.put_nowait((about.namespace, self._body(kind, about, level, reason, message, times.now())))
        except asyncio.QueueFull:
            self.dropped += 1

    async def run(self) -> None:
        """Write queued events until cancelled."""
        while True:
            namespace, body = await self._queue.get()
            try:
                await self._cluster.create(kinds.EVENT, namespace, body)
            except errors.KubeError as error:
                self.dropped += 1
                log.debug("event not written: %s", error)
            await asyncio.sleep(1 / _PER_SECOND)

    def _body(
        self, kind: Kind[Any], about: Object, level: str, reason: str, message: str, now: datetime
    ) -> dict[str, Any]:
        stamp = times.format(now)
        return {
            "metadata": {"name": f"{about.name}.{secrets.token_hex(8)}", "namespace": about.namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "namespace": about.namespace,
                "name": about.name,
                "uid": about.uid,
                "resourceVersion": about.meta.resource_version,
            },
            "type": level,
            "reason": reason,
            "message": message[:_MESSAGE_LIMIT],
            "count": 1,
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": self._component,
        }
