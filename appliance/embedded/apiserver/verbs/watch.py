"""Watches: a position in a kind's history, followed until the client, the time limit or the history ends it.

A watcher owns no queue. It writes what happened since its position with the connection's back-pressure, then waits
to be woken. Selected watches see an object entering and leaving the selection as ADDED and DELETED.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

from aiohttp import web

from appliance.embedded.apiserver.accept import Form, wanted
from appliance.embedded.apiserver.backend import Backend, Call
from appliance.embedded.apiserver.responses import JSON
from appliance.embedded.apiserver.selectors import selector, single_name
from appliance.embedded.apiserver.status import bad_request, gone
from appliance.embedded.apiserver.store.history import Change, History, event_line
from appliance.embedded.apiserver.store.record import Record, encode
from appliance.embedded.apiserver.tables.table import partial, table
from appliance.embedded.apiserver.verbs.read import select

CHUNK = 256
"""Changes written at once."""
DEFAULT_TIMEOUT = (1800.0, 3600.0)
"""Seconds a watch lasts when the client names no limit: uniformly between, so that clients do not return together."""
WAKE_LIMIT = 5.0
"""Seconds after which a waiting watcher looks at its deadlines again."""
INITIAL_END = "k8s.io/initial-events-end"


class Watcher:
    """One watch of one call. ``run`` answers the request."""

    def __init__(self, backend: Backend, call: Call) -> None:
        self._backend = backend
        self._call = call
        self._history: History = backend.store.history(call.resource.key)
        self._bookmarks = call.flag("allowWatchBookmarks")
        self._form = wanted(call.http)
        self._match = _matcher(call)
        self._deadline = time.monotonic() + _timeout(call)
        self._columns_sent = False

    async def run(self) -> web.StreamResponse:
        """Streams events until the watch ends; never raises once the response has begun."""
        initial, position = self._start()
        response = web.StreamResponse(headers={"Content-Type": JSON, "Cache-Control": "no-cache, private"})
        response.enable_chunked_encoding()
        await response.prepare(self._call.http)
        with contextlib.suppress(ConnectionError):
            for index in range(0, len(initial), CHUNK):
                await response.write(b"".join(initial[index : index + CHUNK]))
            await self._follow(response, position)
            await response.write_eof()
        return response

    def _start(self) -> tuple[list[bytes], int]:
        """What to send first and where to go on; ApiStatus 400 or 410 before anything was sent."""
        query = self._call.query
        text = query.get("resourceVersion") or "0"
        if not text.isdigit():
            raise bad_request(f"resourceVersion: Invalid value: {text!r}: must be a number from an earlier answer")
        asked, current = int(text), self._backend.store.version
        initial_events = self._call.flag("sendInitialEvents")
        if initial_events and query.get("resourceVersionMatch") != "NotOlderThan":
            raise bad_request("sendInitialEvents: Forbidden: resourceVersionMatch must be NotOlderThan with it")
        if initial_events or (asked == 0 and query.get("sendInitialEvents") is None):
            lines = [self._line("ADDED", record) for record in select(self._backend, self._call)]
            if initial_events and self._bookmarks:
                lines.append(self._bookmark(current, {INITIAL_END: "true"}))
            return lines, self._history.end
        position = self._history.end if asked == 0 else self._history.position(asked)
        if position is None or asked > current:
            raise gone(f"too old resource version: {asked} ({self._history.floor})")
        return [], position

    async def _follow(self, response: web.StreamResponse, position: int) -> None:
        interval = self._backend.settings.bookmark_interval
        bookmark_at = time.monotonic() + interval
        while not self._backend.stopping.is_set():
            changes = self._history.since(position, CHUNK)
            if changes is None:
                status = gone(f"too old resource version ({self._history.floor}): the watch fell behind").body()
                await response.write(event_line("ERROR", encode(status)))
                return
            if changes:
                position += len(changes)
                data = b"".join([line for change in changes if (line := self._event(change)) is not None])
                if data:
                    await response.write(data)
                continue
            now = time.monotonic()
            if now >= self._deadline or self._call.http.transport is None:
                return
            if self._bookmarks and now >= bookmark_at:
                bookmark_at = now + interval
                await response.write(self._bookmark(self._backend.store.version, None))
            await self._history.wait(
                position, min(self._deadline - now, bookmark_at - now if self._bookmarks else WAKE_LIMIT, WAKE_LIMIT)
            )

    def _event(self, change: Change) -> bytes | None:
        match = self._match
        kind = change.kind
        if match is not None:
            is_in = kind != "DELETED" and match(change.record)
            was_in = change.previous is not None and match(change.previous)
            if kind == "DELETED":
                was_in = was_in or match(change.record)
            if not is_in and not was_in:
                return None
            kind = "MODIFIED" if is_in and was_in else "ADDED" if is_in else "DELETED"
        if kind == change.kind and self._form is Form.OBJECT:
            return change.line()
        return self._line(kind, change.record)

    def _line(self, kind: str, record: Record) -> bytes:
        if self._form is Form.OBJECT:
            return event_line(kind, record.body)
        if self._form is Form.METADATA:
            return event_line(kind, encode(partial(record.object())))
        shown = table(self._call.resource, [record], str(record.version), self._call.query)
        if self._columns_sent:
            shown["columnDefinitions"] = None
        self._columns_sent = True
        return event_line(kind, encode(shown))

    def _bookmark(self, version: int, annotations: dict[str, str] | None) -> bytes:
        res = self._call.resource
        meta: dict[str, object] = {"resourceVersion": str(version), "creationTimestamp": None}
        if annotations:
            meta["annotations"] = annotations
        return event_line("BOOKMARK", encode({"kind": res.kind, "apiVersion": res.api_version, "metadata": meta}))


def _matcher(call: Call) -> Callable[[Record], bool] | None:
    res, query = call.resource, call.query
    test = selector(res, query.get("labelSelector"), query.get("fieldSelector"))
    namespace = call.namespace if res.namespaced else None
    name = call.name or single_name(res, query.get("fieldSelector"))
    if namespace is None and name is None:
        return test

    def match(record: Record) -> bool:
        if namespace is not None and record.namespace != namespace:
            return False
        return (name is None or record.name == name) and (test is None or test(record))

    return match


def _timeout(call: Call) -> float:
    text = call.query.get("timeoutSeconds")
    if not text:
        return random.uniform(*DEFAULT_TIMEOUT)
    if not text.isdigit():
        raise bad_request(f"timeoutSeconds: Invalid value: {text!r}: must be a non-negative integer")
    return float(text) or random.uniform(*DEFAULT_TIMEOUT)


async def watch(backend: Backend, call: Call) -> web.StreamResponse:
    """GET with ``watch=true``."""
    return await Watcher(backend, call).run()
