"""The supervisor's loop: pid 1 of a sandbox.

Single-threaded, blocking in ``poll`` on two descriptors: the wake-up pipe that signals write to, and the socket of
the server process. It holds what must outlive the server: the last /init state, the kernels and the pipes of clients'
commands. It promises that

* every child and every orphan is reaped, and a kernel's end is reported;
* a dead server is back at once (after a crash in its first second: with a growing pause, at most ``RESTART_MAX``);
* SIGTERM ends everything in order (main command, server, kernels, then whatever is left) within ``STOP_GRACE``.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn

import msgspec

from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.supervise import child, messages, title
from appliance.runtime.supervise.channel import Channel
from appliance.runtime.supervise.kernels import KernelTable
from appliance.runtime.supervise.maincommand import MainCommand
from appliance.runtime.supervise.processes import ProcessTable

STOP_GRACE: Final = 4.0
"""Seconds between SIGTERM and SIGKILL; below the pod's grace of 5 s."""
RESTART_MAX: Final = 2.0
"""Seconds, longest pause before a server that keeps dying is started again."""
HEALTHY_AFTER: Final = 1.0
"""Seconds a server must live for its death to be answered at once."""
REPORTS_MAX: Final = 4096
"""Reports held for a server that does not read; it is killed when more pile up."""


@dataclass
class _Server:
    """The present server process."""

    pid: int
    sock: socket.socket
    started: float
    outbox: deque[messages.Report] = field(default_factory=deque)


class Supervisor:
    """State and loop of one sandbox's first process. Not reusable."""

    def __init__(self, settings: RuntimeSettings, main: MainCommand | None) -> None:
        self._settings = settings
        self._main = main
        self._main_pid: int | None = None
        self._exit_code: int | None = None
        self._kernels = KernelTable(settings.etc)
        self._processes = ProcessTable()
        self._state: bytes | None = None
        self._server: _Server | None = None
        self._pause = 0.0
        self._restart_at: float | None = 0.0
        self._stop_deadline: float | None = None
        self._poll = select.poll()
        self._wake_r, self._wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self, preload: Callable[[], None] | None = None) -> NoReturn:
        """Supervise until the sandbox ends, then exit with the main command's code.

        ``preload`` makes this process ready to fork kernels. It is called once the server is on its way: requests for
        kernels wait for it in the socket.
        """
        title.show("appliance: sandbox", "sandbox")
        child.adopt_orphans()
        self._install_signals()
        self._poll.register(self._wake_r, select.POLLIN)
        self._start_server()
        if self._main is not None:
            self._main_pid = self._main.start()
        if preload is not None:
            preload()
        while not self._finished():
            self._tick()
        self._kill_rest()
        os._exit(self._exit_code or 0)

    # Waiting ------------------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        events = dict(self._poll.poll(self._timeout_ms()))
        if self._wake_r in events:
            self._drain_wakeups()
        server = self._server
        if server is not None and (mask := events.get(server.sock.fileno())):
            if mask & select.POLLOUT:
                self._flush(server)
            if mask & (select.POLLIN | select.POLLHUP | select.POLLERR):
                self._read_requests(server)
        self._reap()
        now = time.monotonic()
        if self._restart_at is not None and now >= self._restart_at and self._stop_deadline is None:
            self._start_server()
        if self._stop_deadline is not None and now >= self._stop_deadline:
            self._kill_rest()

    def _timeout_ms(self) -> int | None:
        ends = [at for at in (self._restart_at, self._stop_deadline) if at is not None]
        return max(0, int((min(ends) - time.monotonic()) * 1000) + 1) if ends else None

    def _finished(self) -> bool:
        if self._stop_deadline is None:
            return False
        idle = self._server is None and self._main_pid is None and not self._kernels.living
        return idle or time.monotonic() >= self._stop_deadline

    # Signals ------------------------------------------------------------------------------------------------------
    def _install_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, _noop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            received = os.read(self._wake_r, 4096)
            if signal.SIGTERM in received or signal.SIGINT in received:
                self._stop()

    def _stop(self) -> None:
        if self._stop_deadline is not None:
            return
        self._stop_deadline = time.monotonic() + STOP_GRACE
        self._restart_at = None
        if self._main_pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._main_pid, signal.SIGTERM)
        if self._server is not None:
            os.kill(self._server.pid, signal.SIGTERM)
        # A kernel has nothing to save and ignores SIGTERM during a cell.
        self._kernels.signal_all(signal.SIGKILL)

    def _kill_rest(self) -> None:
        if os.getpid() == 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
        self._kernels.signal_all(signal.SIGKILL)
        for pid in (self._main_pid, self._server.pid if self._server else None):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    # Children -----------------------------------------------------------------------------------------------------
    def _reap(self) -> None:
        while True:
            try:
                pid, raw = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self._child_ended(pid, raw)

    def _child_ended(self, pid: int, raw: int) -> None:
        status = os.waitstatus_to_exitcode(raw)
        if self._server is not None and pid == self._server.pid:
            self._server_ended(self._server, status)
        elif pid == self._main_pid:
            self._main_pid = None
            self._exit_code = status if status >= 0 else 128 - status
            self._stop()
        elif (kernel_id := self._kernels.ended(pid, status)) is not None:
            self._report(messages.Exited(id=kernel_id, status=status))
        elif self._processes.ended(pid, raw):
            self._report(messages.ProcessEnded(pid=pid, status=raw))

    def _start_server(self) -> None:
        self._restart_at = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        theirs.setblocking(False)
        self._server = None
        pid = child.fork(lambda: self._serve(theirs))
        theirs.close()
        self._server = _Server(pid=pid, sock=ours, started=time.monotonic())
        self._poll.register(ours, select.POLLIN)

    def _serve(self, sock: socket.socket) -> None:
        child.reset_signals()
        child.be_python()
        child.close_descriptors([sock.fileno(), *self._processes.descriptors])
        child.die_with_parent()
        title.show("appliance: runtime", "runtime")
        from appliance.runtime.server import serve

        channel = Channel(
            self._settings, sock, self._state, self._kernels.records.values(), self._processes.records.values()
        )
        serve(self._settings, channel, self._state)

    def _server_ended(self, server: _Server, status: int) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._read_requests(server)  # what it still said: a saved state must not be lost
        self._poll.unregister(server.sock)
        server.sock.close()
        self._server = None
        if self._stop_deadline is not None:
            return
        now = time.monotonic()
        early = now - server.started < HEALTHY_AFTER
        self._pause = min(max(self._pause * 2, 0.05), RESTART_MAX) if early else 0.0
        self._restart_at = now + self._pause
        sys.stderr.write(f"runtime: server process ended with status {status}; restarting in {self._pause:.2f} s\n")

    # The channel --------------------------------------------------------------------------------------------------
    def _read_requests(self, server: _Server) -> None:
        while True:
            try:
                request, descriptors = messages.receive_request(server.sock)
            except BlockingIOError:
                return
            except ConnectionError:
                request, descriptors = None, []
            except (OSError, msgspec.DecodeError) as error:
                sys.stderr.write(f"runtime: bad message from the server process: {error}\n")
                os.kill(server.pid, signal.SIGKILL)
                return
            if request is None:
                # End of file without an exit: the socket was closed by user code's hand. Only a new server helps.
                self._poll.modify(server.sock, 0)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server.pid, signal.SIGKILL)
                return
            self._obey(request, descriptors)

    def _obey(self, request: messages.Request, descriptors: list[int]) -> None:
        match request:
            case messages.KeepProcess():
                self._processes.keep(request, descriptors)
            case messages.DropStdin():
                self._processes.drop_stdin(request.pid)
            case messages.ReleaseProcess():
                self._processes.release(request.pid)
            case messages.StartKernel():
                self._start_kernel(request)
            case messages.SignalKernel():
                self._kernels.signal(request.id, request.signum)
            case messages.Remember():
                self._kernels.remember(request.id, request.memo)
            case messages.Forget():
                self._kernels.forget(request.id)
            case messages.SaveState():
                self._state = request.state

    def _start_kernel(self, request: messages.StartKernel) -> None:
        if self._stop_deadline is not None:
            self._report(messages.Failed(id=request.id, reason="the sandbox is stopping"))
            return
        try:
            pid = self._kernels.start(request)
        except (OSError, ValueError, LookupError) as error:
            self._report(messages.Failed(id=request.id, reason=str(error)))
        else:
            self._report(messages.Started(id=request.id, pid=pid))

    def _report(self, report: messages.Report) -> None:
        if self._server is None:
            return  # the next server learns it from the records
        self._server.outbox.append(report)
        self._flush(self._server)

    def _flush(self, server: _Server) -> None:
        while server.outbox:
            try:
                messages.send(server.sock, server.outbox[0])
            except BlockingIOError:
                if len(server.outbox) > REPORTS_MAX:
                    os.kill(server.pid, signal.SIGKILL)
                self._poll.modify(server.sock, select.POLLIN | select.POLLOUT)
                return
            except OSError:
                return  # it is dying; SIGCHLD follows
            server.outbox.popleft()
        self._poll.modify(server.sock, select.POLLIN)


def _noop(signum: int, frame: object) -> None:
    """Only there so that the signal interrupts poll and reaches the wake-up pipe."""
