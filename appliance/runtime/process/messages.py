"""Messages of ``process.Process``; field numbers as in the published proto."""

from __future__ import annotations

from typing import ClassVar, Final

import msgspec

from appliance.runtime.connect.message import Kind, Message, Wire, fields

SIGNALS: Final = {"SIGNAL_UNSPECIFIED": 0, "SIGNAL_SIGKILL": 9, "SIGNAL_SIGTERM": 15}


class PtySize(Message):
    cols: int = 0
    rows: int = 0
    wire: ClassVar[Wire] = fields(cols=(1, Kind.UINT32), rows=(2, Kind.UINT32))


class Pty(Message):
    size: PtySize | None = None
    wire: ClassVar[Wire] = fields(size=(1, PtySize))


class ProcessConfig(Message):
    cmd: str = ""
    args: list[str] = msgspec.field(default_factory=list)
    envs: dict[str, str] = msgspec.field(default_factory=dict)
    cwd: str | None = None
    wire: ClassVar[Wire] = fields(
        cmd=(1, Kind.STRING),
        args=(2, Kind.STRING, "repeated"),
        envs=(3, Kind.STRING_MAP),
        cwd=(4, Kind.STRING, "optional"),
    )


class StartRequest(Message):
    process: ProcessConfig | None = None
    pty: Pty | None = None
    tag: str | None = None
    stdin: bool | None = None
    wire: ClassVar[Wire] = fields(
        process=(1, ProcessConfig), pty=(2, Pty), tag=(3, Kind.STRING, "optional"), stdin=(4, Kind.BOOL, "optional")
    )


class ProcessSelector(Message):
    pid: int | None = None
    tag: str | None = None
    wire: ClassVar[Wire] = fields(pid=(1, Kind.UINT32, "optional"), tag=(2, Kind.STRING, "optional"))


class ConnectRequest(Message):
    process: ProcessSelector | None = None
    wire: ClassVar[Wire] = fields(process=(1, ProcessSelector))


class StartEvent(Message):
    pid: int = 0
    wire: ClassVar[Wire] = fields(pid=(1, Kind.UINT32))


class DataEvent(Message):
    stdout: bytes | None = None
    stderr: bytes | None = None
    pty: bytes | None = None
    wire: ClassVar[Wire] = fields(
        stdout=(1, Kind.BYTES, "optional"), stderr=(2, Kind.BYTES, "optional"), pty=(3, Kind.BYTES, "optional")
    )


class EndEvent(Message):
    exit_code: int = 0
    exited: bool = False
    status: str = ""
    error: str | None = None
    wire: ClassVar[Wire] = fields(
        exit_code=(1, Kind.SINT32),
        exited=(2, Kind.BOOL),
        status=(3, Kind.STRING),
        error=(4, Kind.STRING, "optional"),
    )


class KeepAlive(Message):
    wire: ClassVar[Wire] = fields()


class ProcessEvent(Message):
    start: StartEvent | None = None
    data: DataEvent | None = None
    end: EndEvent | None = None
    keepalive: KeepAlive | None = None
    wire: ClassVar[Wire] = fields(
        start=(1, StartEvent), data=(2, DataEvent), end=(3, EndEvent), keepalive=(4, KeepAlive)
    )


class EventResponse(Message):
    """``StartResponse`` and ``ConnectResponse``, which are the same on the wire."""

    event: ProcessEvent | None = None
    wire: ClassVar[Wire] = fields(event=(1, ProcessEvent))


class ListRequest(Message):
    wire: ClassVar[Wire] = fields()


class ProcessInfo(Message):
    config: ProcessConfig | None = None
    pid: int = 0
    tag: str | None = None
    wire: ClassVar[Wire] = fields(config=(1, ProcessConfig), pid=(2, Kind.UINT32), tag=(3, Kind.STRING, "optional"))


class ListResponse(Message):
    processes: list[ProcessInfo] = msgspec.field(default_factory=list)
    wire: ClassVar[Wire] = fields(processes=(1, ProcessInfo, "repeated"))


class ProcessInput(Message):
    stdin: bytes | None = None
    pty: bytes | None = None
    wire: ClassVar[Wire] = fields(stdin=(1, Kind.BYTES, "optional"), pty=(2, Kind.BYTES, "optional"))


class SendInputRequest(Message):
    process: ProcessSelector | None = None
    input: ProcessInput | None = None
    wire: ClassVar[Wire] = fields(process=(1, ProcessSelector), input=(2, ProcessInput))


class InputStart(Message):
    process: ProcessSelector | None = None
    wire: ClassVar[Wire] = fields(process=(1, ProcessSelector))


class InputData(Message):
    input: ProcessInput | None = None
    wire: ClassVar[Wire] = fields(input=(2, ProcessInput))


class StreamInputRequest(Message):
    start: InputStart | None = None
    data: InputData | None = None
    keepalive: KeepAlive | None = None
    wire: ClassVar[Wire] = fields(start=(1, InputStart), data=(2, InputData), keepalive=(3, KeepAlive))


class SendSignalRequest(Message):
    process: ProcessSelector | None = None
    signal: str = "SIGNAL_UNSPECIFIED"
    wire: ClassVar[Wire] = fields(process=(1, ProcessSelector), signal=(2, SIGNALS))


class CloseStdinRequest(Message):
    process: ProcessSelector | None = None
    wire: ClassVar[Wire] = fields(process=(1, ProcessSelector))


class UpdateRequest(Message):
    process: ProcessSelector | None = None
    pty: Pty | None = None
    wire: ClassVar[Wire] = fields(process=(1, ProcessSelector), pty=(2, Pty))


class Empty(Message):
    """Every response without fields."""

    wire: ClassVar[Wire] = fields()
