"""``process.Process``: the eight calls, over the registry of processes."""

from __future__ import annotations

import asyncio
import signal
import termios
from collections.abc import AsyncIterator, Mapping
from typing import Final

from appliance.runtime.connect.call import Call
from appliance.runtime.connect.errors import Code, ConnectError, invalid
from appliance.runtime.connect.rpc import ClientStream, Method, ServerStream, Sink, Unary
from appliance.runtime.context import Context
from appliance.runtime.process import messages as m
from appliance.runtime.process.fanout import Subscription
from appliance.runtime.process.identity import CannotSwitch
from appliance.runtime.process.inputs import Input, InputClosed
from appliance.runtime.process.process import Process
from appliance.runtime.process.program import program_of, terminal_size
from appliance.runtime.process.registry import Registry
from appliance.runtime.process.spawn import CannotStart, NoResources, spawn
from appliance.runtime.supervise.channel import Channel

_SIGNALS: Final = {"SIGNAL_SIGKILL": signal.SIGKILL, "SIGNAL_SIGTERM": signal.SIGTERM}
_KEEPALIVE: Final = m.EventResponse(event=m.ProcessEvent(keepalive=m.KeepAlive()))
_NO_STDIN: Final = "stdin not enabled or closed"


class ProcessService:
    """Handlers of the service."""

    def __init__(self, context: Context, keeper: Channel | None = None) -> None:
        self._context = context
        self._keeper = keeper
        self._registry = Registry(context.settings)

    def adopt(self) -> None:
        """Take over the commands that outlived the previous server process. Called once, before serving."""
        if self._keeper is None:
            return
        adopted: dict[int, Process] = {}
        for record in self._keeper.processes:
            process = Process.adopt(record, self._context.settings, self._registry.ended, self._keeper)
            adopted[process.pid] = process
            self._registry.add(process)
        self._keeper.processes.clear()
        if adopted:
            self._keeper.attach_processes(lambda pid, status: adopted[pid].told_end(status) if pid in adopted else None)

    def methods(self) -> Mapping[str, Method]:
        """The handlers by path."""
        return {
            "/process.Process/Start": ServerStream(m.StartRequest, self.start),
            "/process.Process/Connect": ServerStream(m.ConnectRequest, self.connect),
            "/process.Process/List": Unary(m.ListRequest, self.list),
            "/process.Process/SendInput": Unary(m.SendInputRequest, self.send_input),
            "/process.Process/StreamInput": ClientStream(m.StreamInputRequest, self.stream_input),
            "/process.Process/CloseStdin": Unary(m.CloseStdinRequest, self.close_stdin),
            "/process.Process/SendSignal": Unary(m.SendSignalRequest, self.send_signal),
            "/process.Process/Update": Unary(m.UpdateRequest, self.update),
        }

    async def start(self, call: Call, request: m.StartRequest, sink: Sink) -> None:
        """Start a process and stream its events. The process lives on when the stream ends early."""
        self._registry.check_room()
        deadline = call.timeout()
        keepalive = call.keepalive()
        program = program_of(request, call, self._context)
        try:
            spawned = spawn(program)
        except NoResources as error:
            raise ConnectError(Code.RESOURCE_EXHAUSTED, str(error)) from None
        except CannotStart as error:
            raise invalid(str(error)) from None
        except CannotSwitch as error:
            raise ConnectError(Code.PERMISSION_DENIED, str(error)) from None
        assert request.process is not None
        process = Process(
            spawned, request.process, request.tag, self._context.settings, self._registry.ended, self._keeper
        )
        self._registry.add(process)
        subscription = process.subscribe()
        if deadline is not None:
            process.set_deadline(deadline, subscription)
        await _follow(process, subscription, sink, keepalive)

    async def connect(self, call: Call, request: m.ConnectRequest, sink: Sink) -> None:
        """Stream the events of a process from now on; of an ended one, its end."""
        process = self._registry.any(request.process)
        if process.end is not None:
            await sink.send(_started(process))
            await sink.send(m.EventResponse(event=m.ProcessEvent(end=process.end)))
            return
        subscription = process.subscribe()
        with _Expiry(subscription, call.timeout()):
            await _follow(process, subscription, sink, call.keepalive())

    async def list(self, call: Call, request: m.ListRequest) -> m.ListResponse:
        """The live processes."""
        infos = [m.ProcessInfo(config=p.config, pid=p.pid, tag=p.tag) for p in self._registry]
        return m.ListResponse(processes=infos)

    async def send_input(self, call: Call, request: m.SendInputRequest) -> m.Empty:
        """Write to stdin or the terminal; answers when the process's buffer has taken it all."""
        await _write(self._registry.live(request.process), request.input)
        return m.Empty()

    async def stream_input(self, call: Call, requests: AsyncIterator[m.StreamInputRequest]) -> m.Empty:
        """Write a stream of inputs."""
        process: Process | None = None
        async for request in requests:
            if request.start is not None:
                process = self._registry.live(request.start.process)
            elif request.data is not None:
                if process is None:
                    raise invalid("the first message of StreamInput must be start, got data")
                await _write(process, request.data.input)
        return m.Empty()

    async def close_stdin(self, call: Call, request: m.CloseStdinRequest) -> m.Empty:
        """Close stdin; closing it again is no error."""
        process = self._registry.live(request.process)
        if process.pty is not None:
            message = "cannot close stdin for PTY process; send Ctrl+D (0x04) instead"
            raise ConnectError(Code.UNKNOWN, message)
        process.close_stdin()
        return m.Empty()

    async def send_signal(self, call: Call, request: m.SendSignalRequest) -> m.Empty:
        """SIGTERM or SIGKILL to the process itself, not to its children."""
        process = self._registry.live(request.process)
        number = _SIGNALS.get(request.signal)
        if number is None:
            message = f"signal: expected SIGNAL_SIGTERM or SIGNAL_SIGKILL, got {request.signal}"
            raise ConnectError(Code.UNIMPLEMENTED, message)
        process.send_signal(number)
        return m.Empty()

    async def update(self, call: Call, request: m.UpdateRequest) -> m.Empty:
        """Resize the terminal."""
        process = self._registry.live(request.process)
        if request.pty is None:
            return m.Empty()
        if process.pty is None:
            raise ConnectError(Code.INTERNAL, "tty not assigned to process")
        columns, rows = terminal_size(request.pty)
        try:
            termios.tcsetwinsize(process.pty.descriptor, (rows, columns))
        except (InputClosed, OSError):
            raise ConnectError(Code.INTERNAL, "the terminal is closed") from None
        return m.Empty()


class _Expiry:
    """Ends a listener with deadline_exceeded after a time; the process is not touched."""

    def __init__(self, subscription: Subscription, seconds: float | None) -> None:
        error = ConnectError(Code.DEADLINE_EXCEEDED, "context deadline exceeded")
        loop = asyncio.get_running_loop()
        self._timer = None if seconds is None else loop.call_later(seconds, subscription.put, error)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()


def _started(process: Process) -> m.EventResponse:
    return m.EventResponse(event=m.ProcessEvent(start=m.StartEvent(pid=process.pid)))


async def _follow(process: Process, subscription: Subscription, sink: Sink, keepalive: float) -> None:
    """Send start, then every event until the end, or until the client goes away."""
    try:
        sink.on_close(subscription.close, subscription.wake)
        await sink.send(_started(process))
        while not sink.closed:
            event = await subscription.next(keepalive)
            if event is None:
                await sink.send(_KEEPALIVE)
                continue
            await sink.send(m.EventResponse(event=event))
            if event.end is not None:
                return
    finally:
        process.unsubscribe(subscription)


async def _write(process: Process, data: m.ProcessInput | None) -> None:
    if data is None or (data.stdin is None and data.pty is None):
        raise invalid("input: expected stdin or pty")
    target: Input | None
    if data.pty is not None:
        target, content, missing = process.pty, data.pty, "tty not assigned to process"
    else:
        assert data.stdin is not None
        target, content, missing = process.stdin, data.stdin, _NO_STDIN
    if target is None or target.closed:
        raise ConnectError(Code.INTERNAL, f"error writing to process: {missing}")
    try:
        await target.write(content)
    except InputClosed:
        raise ConnectError(Code.INTERNAL, f"error writing to process: {missing}") from None
