"""Running a program inside a living container, in a fork of the template: exec, hooks and exec probes.

The fork joins the container's control groups and namespaces, forks the program, and stays outside to wait for it.
The control socket is the program's lifeline: when its other end closes, the program's session is killed.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import struct
import termios
from contextlib import suppress
from typing import NoReturn

import msgspec

from appliance.embedded.node import initproc, process_ids, syscalls
from appliance.embedded.node.cgroups import Group
from appliance.embedded.node.request import Exec, ExecEvent
from appliance.runtime.supervise import title

_ALL = (
    syscalls.CLONE_NEWUSER
    | syscalls.CLONE_NEWNS
    | syscalls.CLONE_NEWPID
    | syscalls.CLONE_NEWNET
    | syscalls.CLONE_NEWIPC
    | syscalls.CLONE_NEWUTS
    | syscalls.CLONE_NEWCGROUP
)


def execute(request: Exec, fds: list[int]) -> NoReturn:
    """Run in a fresh fork of the template; ``fds``: stdin, stdout, stderr, control socket. Ends the process."""
    control = socket.socket(fileno=fds[3])
    try:
        os.setsid()
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        _enter(request)
        pid = _fork(request, fds, control)
        for fd in fds[:3]:
            os.close(fd)
        _say(control, ExecEvent(code=_wait(pid, control, read_end)))
    except Exception as error:
        _say(control, ExecEvent(error=f"{type(error).__name__}: {error}"[:1000]))
    finally:
        os._exit(0)


def _say(control: socket.socket, event: ExecEvent, fds: tuple[int, ...] = ()) -> None:
    with suppress(OSError):
        socket.send_fds(control, [msgspec.json.encode(event)], list(fds))


def _enter(request: Exec) -> None:
    pidfd = os.pidfd_open(request.pid)
    if process_ids.start_time(request.pid) != request.start:
        raise ProcessLookupError("the container ended")
    if request.cgroups:
        Group("cpu" in request.cgroups and len(set(request.cgroups.values())) == 1, request.cgroups).enter()
    if request.isolated:
        syscalls.setns(pidfd, _ALL)
        os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
    os.close(pidfd)


def _fork(request: Exec, fds: list[int], control: socket.socket) -> int:
    master = terminal = -1
    if request.tty:
        master, terminal = os.openpty()
        fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", request.rows, request.columns, 0, 0))
    pid = os.fork()
    if pid == 0:
        title.show("appliance: exec", "exec")  # visible inside until the program replaces it
        os.setsid()
        streams = (terminal,) * 3 if request.tty else tuple(fds[:3])
        if request.tty:
            fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        initproc.execute(request.command)
    _say(control, ExecEvent(started=True), (master,) if request.tty else ())
    for fd in (master, terminal):
        if fd >= 0:
            os.close(fd)
    return pid


def _wait(pid: int, control: socket.socket, wakeup: int) -> int:
    """Until the program ends or the control socket closes, whichever is first."""
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return initproc.exit_code(status)
        ready, _, _ = select.select([control.fileno(), wakeup], [], [])
        if wakeup in ready:
            os.read(wakeup, 4096)
        if control.fileno() in ready and not control.recv(16):
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            return initproc.exit_code(os.waitpid(pid, 0)[1])
