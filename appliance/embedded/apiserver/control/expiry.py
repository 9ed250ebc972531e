"""Events are kept for an hour, as on any cluster, and never more than a fixed number."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta

from appliance.embedded.apiserver.backend import Backend
from appliance.embedded.apiserver.status import ApiStatus
from appliance.embedded.apiserver.store.record import Record
from appliance.embedded.apiserver.verbs import delete, writer

log = logging.getLogger(__name__)
LIFETIME = timedelta(hours=1)
MAX_EVENTS = 10_000
INTERVAL = 30.0
"""Seconds between two looks."""
_OPTIONS = writer.Options(manager="event-expiry")


async def run(backend: Backend) -> None:
    """Removes expired events until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL)
        try:
            expire(backend, datetime.now(UTC))
        except ApiStatus as status:
            log.warning("expiring events: %s", status)


def expire(backend: Backend, now: datetime) -> int:
    """Stages the removal of what is too old or too many; returns how many."""
    res = backend.registry.by_key("events")
    records = sorted(backend.store.items("events"), key=lambda record: record.version)
    surplus = len(records) - MAX_EVENTS
    count = 0
    for index, record in enumerate(records):
        if res is not None and (index < surplus or _born(record) < now - LIFETIME):
            current = backend.store.peek(*record[:3])
            if current is not None and current.version == record.version:
                delete.begin(backend, res, current, {}, _OPTIONS)
                count += 1
    return count


def _born(record: Record) -> datetime:
    obj = record.object()
    stamp = obj.get("lastTimestamp") or obj.get("eventTime") or obj["metadata"]["creationTimestamp"]
    born = datetime.fromisoformat(stamp)
    return born if born.tzinfo else born.replace(tzinfo=UTC)
