"""Messages of ``filesystem.Filesystem``; field numbers as in the published proto."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from appliance.runtime.connect.message import Kind, Message, Wire, fields

FILE_TYPES: Final = {
    "FILE_TYPE_UNSPECIFIED": 0,
    "FILE_TYPE_FILE": 1,
    "FILE_TYPE_DIRECTORY": 2,
    "FILE_TYPE_SYMLINK": 3,
}
EVENT_TYPES: Final = {
    "EVENT_TYPE_UNSPECIFIED": 0,
    "EVENT_TYPE_CREATE": 1,
    "EVENT_TYPE_WRITE": 2,
    "EVENT_TYPE_REMOVE": 3,
    "EVENT_TYPE_RENAME": 4,
    "EVENT_TYPE_CHMOD": 5,
}


class EntryInfo(Message):
    name: str = ""
    type: str = "FILE_TYPE_UNSPECIFIED"
    path: str = ""
    size: str = "0"
    mode: int = 0
    permissions: str = ""
    owner: str = ""
    group: str = ""
    modified_time: str | None = None
    symlink_target: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    is_symlink: bool = False
    wire: ClassVar[Wire] = fields(
        name=(1, Kind.STRING),
        type=(2, FILE_TYPES),
        path=(3, Kind.STRING),
        size=(4, Kind.INT64),
        mode=(5, Kind.UINT32),
        permissions=(6, Kind.STRING),
        owner=(7, Kind.STRING),
        group=(8, Kind.STRING),
        modified_time=(9, Kind.TIMESTAMP, "optional"),
        symlink_target=(10, Kind.STRING, "optional"),
        metadata=(11, Kind.STRING_MAP),
        is_symlink=(12, Kind.BOOL),
    )


class PathRequest(Message):
    """``StatRequest``, ``MakeDirRequest`` and ``RemoveRequest``."""

    path: str = ""
    wire: ClassVar[Wire] = fields(path=(1, Kind.STRING))


class EntryResponse(Message):
    """``StatResponse``, ``MakeDirResponse`` and ``MoveResponse``."""

    entry: EntryInfo | None = None
    wire: ClassVar[Wire] = fields(entry=(1, EntryInfo))


class MoveRequest(Message):
    source: str = ""
    destination: str = ""
    wire: ClassVar[Wire] = fields(source=(1, Kind.STRING), destination=(2, Kind.STRING))


class ListDirRequest(Message):
    path: str = ""
    depth: int = 0
    wire: ClassVar[Wire] = fields(path=(1, Kind.STRING), depth=(2, Kind.UINT32))


class ListDirResponse(Message):
    entries: list[EntryInfo] = msgspec.field(default_factory=list)
    wire: ClassVar[Wire] = fields(entries=(1, EntryInfo, "repeated"))


class WatchRequest(Message):
    """``WatchDirRequest`` and ``CreateWatcherRequest``."""

    path: str = ""
    recursive: bool = False
    include_entry: bool = False
    allow_network_mounts: bool = False
    wire: ClassVar[Wire] = fields(
        path=(1, Kind.STRING),
        recursive=(2, Kind.BOOL),
        include_entry=(3, Kind.BOOL),
        allow_network_mounts=(4, Kind.BOOL),
    )


class FilesystemEvent(Message):
    name: str = ""
    type: str = "EVENT_TYPE_UNSPECIFIED"
    entry: EntryInfo | None = None
    wire: ClassVar[Wire] = fields(name=(1, Kind.STRING), type=(2, EVENT_TYPES), entry=(3, EntryInfo))


class Nothing(Message):
    """Start and keepalive events, and every response without fields."""

    wire: ClassVar[Wire] = fields()


class WatchDirResponse(Message):
    start: Nothing | None = None
    filesystem: FilesystemEvent | None = None
    keepalive: Nothing | None = None
    wire: ClassVar[Wire] = fields(start=(1, Nothing), filesystem=(2, FilesystemEvent), keepalive=(3, Nothing))


class WatcherId(Message):
    """``CreateWatcherResponse``, ``GetWatcherEventsRequest`` and ``RemoveWatcherRequest``."""

    watcher_id: str = ""
    wire: ClassVar[Wire] = fields(watcher_id=(1, Kind.STRING))


class WatcherEvents(Message):
    """``GetWatcherEventsResponse``."""

    events: list[FilesystemEvent] = msgspec.field(default_factory=list)
    wire: ClassVar[Wire] = fields(events=(1, FilesystemEvent, "repeated"))
