"""``filesystem.Filesystem``: the nine calls. All operate with the runtime's rights and give results to the user."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from appliance.runtime.connect.call import Call
from appliance.runtime.connect.rpc import Method, ServerStream, Sink, Unary
from appliance.runtime.context import Context
from appliance.runtime.filesystem import directories
from appliance.runtime.filesystem import messages as m
from appliance.runtime.filesystem.entries import Describer
from appliance.runtime.filesystem.failures import rpc_error
from appliance.runtime.filesystem.watchers import Watchers

_OLD_CLIENT: Final = "connect-python"
"""In the User-Agent of the oldest Python SDKs."""
_KEEPALIVE = m.WatchDirResponse(keepalive=m.Nothing())


class FilesystemService:
    """Handlers of the service."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watchers = Watchers(context)

    def close(self) -> None:
        """Drop all watches."""
        self._watchers.close()

    def methods(self) -> Mapping[str, Method]:
        """The handlers by path."""
        prefix = "/filesystem.Filesystem/"
        return {
            prefix + "Stat": Unary(m.PathRequest, self.stat),
            prefix + "MakeDir": Unary(m.PathRequest, self.make_dir),
            prefix + "Move": Unary(m.MoveRequest, self.move),
            prefix + "ListDir": Unary(m.ListDirRequest, self.list_dir),
            prefix + "Remove": Unary(m.PathRequest, self.remove),
            prefix + "WatchDir": ServerStream(m.WatchRequest, self.watch_dir),
            prefix + "CreateWatcher": Unary(m.WatchRequest, self.create_watcher),
            prefix + "GetWatcherEvents": Unary(m.WatcherId, self.get_watcher_events),
            prefix + "RemoveWatcher": Unary(m.WatcherId, self.remove_watcher),
        }

    def _describer(self, call: Call) -> Describer:
        """SDKs of 2023 and before break on members of ``EntryInfo`` they do not know."""
        reduced = _OLD_CLIENT in call.request.headers.get("user-agent", "")
        return Describer(self._context.users, reduced=reduced)

    async def stat(self, call: Call, request: m.PathRequest) -> m.EntryResponse:
        """Describe one entry."""
        path = self._context.rpc_path(request.path, self._context.rpc_user(call))
        try:
            return m.EntryResponse(entry=self._describer(call).entry(path))
        except OSError as error:
            raise rpc_error(error, path) from None

    async def make_dir(self, call: Call, request: m.PathRequest) -> m.EntryResponse:
        """Create a directory and its parents."""
        user = self._context.rpc_user(call)
        path = self._context.rpc_path(request.path, user)
        try:
            directories.make_directory(path, user)
            return m.EntryResponse(entry=self._describer(call).entry(path))
        except OSError as error:
            raise rpc_error(error, path) from None

    async def move(self, call: Call, request: m.MoveRequest) -> m.EntryResponse:
        """Rename."""
        user = self._context.rpc_user(call)
        source = self._context.rpc_path(request.source, user)
        destination = self._context.rpc_path(request.destination, user)
        try:
            directories.move(source, destination, user)
            return m.EntryResponse(entry=self._describer(call).entry(destination))
        except OSError as error:
            raise rpc_error(error, source) from None

    async def list_dir(self, call: Call, request: m.ListDirRequest) -> m.ListDirResponse:
        """List a directory to a depth; 0 means 1. In a thread, because trees can be large."""
        path = self._context.rpc_path(request.path, self._context.rpc_user(call))
        describer = self._describer(call)
        try:
            entries = await asyncio.to_thread(directories.list_directory, path, request.depth or 1, describer)
        except OSError as error:
            raise rpc_error(error, path) from None
        return m.ListDirResponse(entries=entries)

    async def remove(self, call: Call, request: m.PathRequest) -> m.Nothing:
        """Remove a file or a tree; in a thread."""
        path = self._context.rpc_path(request.path, self._context.rpc_user(call))
        try:
            await asyncio.to_thread(directories.remove, path)
        except OSError as error:
            raise rpc_error(error, path) from None
        return m.Nothing()

    async def watch_dir(self, call: Call, request: m.WatchRequest, sink: Sink) -> None:
        """Stream the changes below a directory until the client goes away or its deadline comes."""
        keepalive = call.keepalive()
        async with asyncio.timeout(call.timeout()), self._watchers.watching(call, request) as events:
            sink.on_close(events.wake, events.wake)
            await sink.send(m.WatchDirResponse(start=m.Nothing()))
            while not sink.closed:
                await events.wait(keepalive)
                changes = events.take()
                for change in changes:
                    await sink.send(m.WatchDirResponse(filesystem=change))
                if not changes:
                    await sink.send(_KEEPALIVE)

    async def create_watcher(self, call: Call, request: m.WatchRequest) -> m.WatcherId:
        """A watcher to be asked for its events."""
        return m.WatcherId(watcher_id=await self._watchers.create(call, request))

    async def get_watcher_events(self, call: Call, request: m.WatcherId) -> m.WatcherEvents:
        """The events since the last call."""
        return m.WatcherEvents(events=self._watchers.events(request.watcher_id))

    async def remove_watcher(self, call: Call, request: m.WatcherId) -> m.Nothing:
        """Stop a watcher."""
        self._watchers.remove(request.watcher_id)
        return m.Nothing()
