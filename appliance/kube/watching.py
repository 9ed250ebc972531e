"""List and watch as four short generators, one worry each; each builds on the one above.

``stream``      one HTTP request: lines to events, with an inactivity timer.
``resume``      one position in the history: opens stream after stream where the last one stopped. Regular ends and
                broken connections are its worry; an expired position (410) is not.
``list_watch``  the whole truth, then its changes: lists in pages, watches from there, lists again after 410.
``persist``     never gives up: anything else that goes wrong (no rights yet, no such resource yet, server away) is
                logged once per kind of trouble and tried again, ever more slowly.

Every generator leaves nothing open when it is closed or cancelled, at whatever await.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from appliance.api.kinds import Kind
from appliance.config import KubeSettings
from appliance.kube import codec, errors
from appliance.kube.backoff import Backoff
from appliance.kube.codec import Event, Page
from appliance.kube.metrics import KubeMetrics
from appliance.kube.transport import Transport

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listing:
    """A list begins; what an earlier, broken one had shown counts for nothing."""


@dataclass(frozen=True)
class Listed:
    """The list is complete: whatever it did not contain, and is not newer than it, does not exist."""

    resource_version: str


@dataclass(frozen=True)
class Source(Generic[T]):
    """What is listed and watched, and through what."""

    transport: Transport
    settings: KubeSettings
    metrics: KubeMetrics
    kind: Kind[Any]
    of: type[T]
    namespace: str | None = None
    selectors: Mapping[str, str] = field(default_factory=dict)
    """Query parameters ``labelSelector`` and ``fieldSelector``, absent when empty."""

    @property
    def path(self) -> str:
        """URL path of the collection."""
        return self.kind.path(self.namespace)

    def backoff(self) -> Backoff:
        """Fresh delays."""
        return Backoff(self.settings.backoff_initial, self.settings.backoff_max)


Step = Listing | Page[T] | Listed | Event[T]
"""What an informer is told."""


async def pages(source: Source[T], limit: int | None = None) -> AsyncGenerator[Page[T], None]:
    """A consistent list in pages. Raises Gone when it took longer than the server keeps the snapshot."""
    params = {**source.selectors, "limit": str(min(limit or source.settings.page_size, source.settings.page_size))}
    while True:
        body = await source.transport.request("list", "GET", source.path, params=params)
        page = codec.decode_page(body, source.of)
        source.metrics.undecodable[source.kind.plural] += page.skipped
        yield page
        if not page.token:
            return
        params["continue"] = page.token


async def stream(source: Source[T], since: str) -> AsyncGenerator[Event[T], None]:
    """The events after ``since`` of one HTTP request, bookmarks included, until the server ends it."""
    seconds = source.settings.watch_timeout * random.uniform(0.8, 1.2)  # so that watches do not all end at once
    params = {
        **source.selectors,
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": since,
        "timeoutSeconds": str(max(1, round(seconds))),
    }
    lines = source.transport.lines("watch", source.path, params, inactivity=source.settings.watch_inactivity)
    async with aclosing(lines):
        async for line in lines:
            event = codec.decode_event(line, source.of)
            if event is None:
                source.metrics.undecodable[source.kind.plural] += 1
                continue
            source.metrics.watch_events[source.kind.plural] += 1
            yield event


async def resume(source: Source[T], since: str) -> AsyncGenerator[Event[T], None]:
    """All events after ``since``, bookmarks included, across regular ends and broken connections.

    Raises Gone when the position expired, and other ApiErrors that waiting a moment will not heal.
    """
    backoff = source.backoff()
    while True:
        cause, delay, opened = "ended", 0.0, time.monotonic()
        try:
            async with aclosing(stream(source, since)) as events:
                async for event in events:
                    since = codec.version_of(event.object) or since
                    backoff.reset()
                    yield event
            if time.monotonic() - opened > source.settings.backoff_max:
                backoff.reset()
            delay = backoff.next()  # also after a regular end: a server that ends watches at once is not hammered
        except (errors.Unreachable, errors.RequestTimeout, errors.ServerError, errors.TooManyRequests) as error:
            cause = type(error).__name__
            delay = backoff.next(getattr(error, "retry_after", None) or 0.0)
            log.info("watch of %s broke, again in %.1f s: %s", source.path, delay, error)
        source.metrics.watch_restarts[source.kind.plural, cause] += 1
        await asyncio.sleep(delay)


async def list_watch(source: Source[T]) -> AsyncGenerator[Step[T], None]:
    """``Listing``, pages, ``Listed``, events; over again after 410. Raises whatever else goes wrong."""
    backoff = source.backoff()
    while True:
        try:
            version = ""
            yield Listing()
            async with aclosing(pages(source)) as listing:
                async for page in listing:
                    version = page.resource_version
                    yield page
                    await asyncio.sleep(0)  # a long list must not hold up the loop
            source.metrics.lists[source.kind.plural] += 1
            yield Listed(version)
            async with aclosing(resume(source, version)) as events:
                async for event in events:
                    backoff.reset()
                    yield event
        except errors.Gone as error:
            source.metrics.watch_restarts[source.kind.plural, "Gone"] += 1
            log.info("list of %s again: %s", source.path, error)
            await asyncio.sleep(backoff.next())  # lists are dear: a server that forgets at once is not hammered either


async def persist(source: Source[T]) -> AsyncGenerator[Step[T], None]:
    """``list_watch`` for ever, from a new list after every failure."""
    backoff = source.backoff()
    last = ""
    while True:
        try:
            async with aclosing(list_watch(source)) as steps:
                async for step in steps:
                    if isinstance(step, Listed):
                        backoff.reset()
                        last = ""
                    yield step
        except errors.KubeError as error:
            delay = backoff.next(getattr(error, "retry_after", None) or 0.0)
            level = logging.DEBUG if type(error).__name__ == last else logging.WARNING
            last = type(error).__name__
            log.log(level, "cannot list and watch %s, trying on: %s", source.path, error)
            await asyncio.sleep(delay)
