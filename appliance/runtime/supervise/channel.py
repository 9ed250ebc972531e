"""The server process's end of the supervisor's socket.

Synchronous to call, asynchronous to hear from: requests are sent at once (or queued while the socket is full),
reports arrive through the event loop once ``attach`` was called. The colleague applications see two things of it:
``saved_state`` and ``save_state``; the interpreter sees the kernels.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.supervise import messages

OUTBOX_MAX: Final = 10_000
"""Requests held while the supervisor does not read."""


class Channel:
    """One per server process. Everything but the constructor must run in the event loop's thread."""

    def __init__(
        self,
        settings: RuntimeSettings,
        sock: socket.socket,
        saved_state: bytes | None,
        records: Iterable[messages.KernelRecord],
        processes: Iterable[messages.ProcessRecord] = (),
    ) -> None:
        self.settings = settings
        self.saved_state = saved_state
        """Snapshot that the previous server process saved; None in the first one."""
        self.records = list(records)
        """Kernels started by previous server processes, the ended ones included."""
        self.processes = list(processes)
        """Commands of clients that outlived the previous server process, with descriptors that are ours now."""
        self._on_process_end: Callable[[int, int], None] | None = None
        self._sock = sock
        self._outbox: deque[messages.Request] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._on_report: Callable[[messages.Report], None] | None = None
        self._early: list[messages.Report] = []
        """Reports about kernels that came before somebody wanted them."""

    def save_state(self, state: bytes) -> None:
        """Hand ``state`` to the supervisor for the next server process. Never blocks."""
        self.send(messages.SaveState(state=state))

    def keep(self, request: messages.KeepProcess, descriptors: list[int]) -> bool:
        """Hand a command over to the supervisor; False when its socket is full at the moment, or it is gone."""
        if self._outbox:
            return False
        try:
            messages.send(self._sock, request, descriptors)
        except OSError:
            return False
        return True

    def drop_stdin(self, pid: int) -> None:
        """Have the supervisor close its copy of a command's standard input."""
        with contextlib.suppress(OSError):
            self.send(messages.DropStdin(pid=pid))

    def release(self, pid: int) -> None:
        """Have the supervisor forget a command."""
        with contextlib.suppress(OSError):
            self.send(messages.ReleaseProcess(pid=pid))

    def send(self, request: messages.Request) -> None:
        """Send or queue a request. Raises ``OSError`` when the supervisor is gone or far behind."""
        if self._outbox:
            self._enqueue(request)
            return
        try:
            messages.send(self._sock, request)
        except BlockingIOError:
            self._enqueue(request)

    def attach(self, on_report: Callable[[messages.Report], None]) -> None:
        """Deliver reports about kernels to ``on_report`` from now on, in the running loop."""
        self._on_report = on_report
        early, self._early = self._early, []
        for report in early:
            on_report(report)
        self._listen()

    def attach_processes(self, on_end: Callable[[int, int], None]) -> None:
        """Tell ``on_end`` the pid and wait status of each adopted command that ends, in the running loop."""
        self._on_process_end = on_end
        self._listen()

    def _listen(self) -> None:
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._readable)
        if self._outbox:
            self._loop.add_writer(self._sock.fileno(), self._writable)

    def detach(self) -> None:
        """Stop listening; what arrives stays in the socket."""
        if self._loop is not None:
            self._loop.remove_reader(self._sock.fileno())
            self._loop.remove_writer(self._sock.fileno())
            self._loop = None

    def _enqueue(self, request: messages.Request) -> None:
        if len(self._outbox) >= OUTBOX_MAX:
            raise BlockingIOError("the supervisor does not read its socket")
        self._outbox.append(request)
        with contextlib.suppress(RuntimeError):
            loop = self._loop or asyncio.get_running_loop()
            loop.add_writer(self._sock.fileno(), self._writable)

    def _writable(self) -> None:
        while self._outbox:
            try:
                messages.send(self._sock, self._outbox[0])
            except BlockingIOError:
                return
            except OSError:
                self._outbox.clear()
                break
            self._outbox.popleft()
        asyncio.get_running_loop().remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        while True:
            try:
                report = messages.receive_report(self._sock)
            except BlockingIOError:
                return
            except OSError:
                report = None
            if report is None:  # the supervisor is gone, and SIGKILL with it on its way
                self.detach()
                return
            if isinstance(report, messages.ProcessEnded):
                if self._on_process_end is not None:
                    self._on_process_end(report.pid, report.status)
            elif self._on_report is None:
                self._early.append(report)
            else:
                self._on_report(report)
