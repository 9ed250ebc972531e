"""Watchers: those that stream and those that are polled, over one inotify hub."""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from appliance.runtime.connect.call import Call
from appliance.runtime.connect.errors import Code, ConnectError, invalid, not_found
from appliance.runtime.context import Context
from appliance.runtime.filesystem.entries import Describer
from appliance.runtime.filesystem.events import EventQueue
from appliance.runtime.filesystem.failures import rpc_error
from appliance.runtime.filesystem.inotify import Hub
from appliance.runtime.filesystem.messages import FilesystemEvent, WatchRequest
from appliance.runtime.filesystem.network import network_filesystem
from appliance.runtime.filesystem.watch import Watch, subdirectories

_WITH_ENTRY = frozenset({"EVENT_TYPE_CREATE", "EVENT_TYPE_WRITE", "EVENT_TYPE_CHMOD"})


class Watchers:
    """All watchers of the sandbox."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hub = Hub()
        self._polled: dict[str, tuple[Watch, EventQueue]] = {}

    def close(self) -> None:
        """Drop everything."""
        self._polled.clear()
        self._hub.close()

    @asynccontextmanager
    async def watching(self, call: Call, request: WatchRequest) -> AsyncIterator[EventQueue]:
        """Watch for as long as the context lasts."""
        watch, events = await self._start(call, request)
        try:
            yield events
        finally:
            watch.close()

    async def create(self, call: Call, request: WatchRequest) -> str:
        """Start a polled watcher; returns its id. Raises ``ConnectError``."""
        if len(self._polled) >= self._context.settings.max_watchers:
            raise ConnectError(Code.RESOURCE_EXHAUSTED, f"already {len(self._polled)} watchers; remove some first")
        started = await self._start(call, request)
        identifier = "w" + secrets.token_hex(10)
        self._polled[identifier] = started
        return identifier

    def events(self, identifier: str) -> list[FilesystemEvent]:
        """The events of a polled watcher, removed. Raises ``ConnectError`` not_found."""
        return self._get(identifier)[1].take()

    def remove(self, identifier: str) -> None:
        """Stop a polled watcher. Raises ``ConnectError`` not_found."""
        self._get(identifier)[0].close()
        del self._polled[identifier]

    def _get(self, identifier: str) -> tuple[Watch, EventQueue]:
        try:
            return self._polled[identifier]
        except KeyError:
            raise not_found(f"watcher with id {identifier} not found") from None

    async def _start(self, call: Call, request: WatchRequest) -> tuple[Watch, EventQueue]:
        path = self._context.rpc_path(request.path, self._context.rpc_user(call))
        events = EventQueue(self._context.settings.max_watch_events)
        try:
            self._check(path, request.allow_network_mounts)
            below = await asyncio.to_thread(subdirectories, path) if request.recursive else []
            watch = Watch(self._hub, path, request.recursive, self._deliverer(path, request, events), events.lose)
            watch.start(below)
        except OSError as error:
            raise rpc_error(error, path) from None
        return watch, events

    @staticmethod
    def _check(path: str, allow_network: bool) -> None:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise invalid(f"path is not a directory: {path}")
        if not allow_network and (kind := network_filesystem(path)) is not None:
            raise invalid(
                f"cannot watch path on network filesystem: {path} ({kind}); set allow_network_mounts to do so"
            )

    def _deliverer(self, path: str, request: WatchRequest, events: EventQueue) -> _Deliverer:
        return _Deliverer(path, request.include_entry, events, self._context)


class _Deliverer:
    """Turns a change into an event of the protocol, with the entry when it was asked for and still exists."""

    def __init__(self, root: str, include_entry: bool, events: EventQueue, context: Context) -> None:
        self._root = root
        self._include = include_entry
        self._events = events
        self._context = context

    def __call__(self, name: str, kind: str) -> None:
        event = FilesystemEvent(name=name, type=kind)
        if self._include and kind in _WITH_ENTRY:
            try:
                path = self._root if name == "." else f"{self._root.rstrip('/')}/{name}"
                event.entry = Describer(self._context.users).entry(path)
            except OSError:
                event.entry = None
        self._events.put(event)
