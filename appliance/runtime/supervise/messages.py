"""What the server process and the supervisor say to each other over one ``SOCK_SEQPACKET`` socketpair.

Each packet is one message. A small one travels in the packet; one that would not fit the socket buffer travels in a
sealed anonymous file whose descriptor rides along (a saved /init state may be megabytes). Nothing here blocks: a full
buffer raises ``BlockingIOError`` and the caller keeps the message for later.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

INLINE_MAX: Final = 32 * 1024
"""Bytes; larger messages go through a descriptor. Well below Linux' default socket buffer of 208 KiB."""
MESSAGE_MAX: Final = 64 * 1024 * 1024
MAX_DESCRIPTORS: Final = 4
"""Descriptors that belong to one message, the file of a large one not counted."""
_INLINE: Final = b"\x00"
_IN_FILE: Final = b"\x01"


class Connection(msgspec.Struct, frozen=True):
    """Where a kernel listens, in the words of a Jupyter connection file."""

    transport: str
    """``ipc`` or ``tcp``."""
    ip: str
    """For ipc the path prefix (sockets are ``ip-port``), for tcp an address."""
    key: str
    """HMAC key that signs every message."""
    shell_port: int = 1
    iopub_port: int = 2
    stdin_port: int = 3
    control_port: int = 4
    hb_port: int = 5


class StartKernel(msgspec.Struct, tag="start", frozen=True):
    """Server → supervisor: start a kernel process. Answered by ``Started`` or ``Failed``."""

    id: str
    connection: Connection
    directory: str
    """Made for the kernel's sockets and files before it starts, removed after its end."""
    cwd: str
    env: Mapping[str, str]
    """The kernel's whole environment."""
    user: str | None
    """Account to become; None: the supervisor's own."""
    memo: bytes
    """Whatever the next server process needs to take this kernel over."""
    argv: tuple[str, ...] | None = None
    """Program to execute; None: fork the preloaded Python kernel."""
    interrupt_by_message: bool = False
    """How the kernel wants to be interrupted: by a message on its control channel, or (else) by SIGINT."""
    connection_file: bytes | None = None
    """Content of ``DIRECTORY/connection.json``, for a program; None: no such file."""


class SignalKernel(msgspec.Struct, tag="signal", frozen=True):
    """Server → supervisor: signal the kernel's process group."""

    id: str
    signum: int


class Remember(msgspec.Struct, tag="remember", frozen=True):
    """Server → supervisor: a new memo for a kernel."""

    id: str
    memo: bytes


class Forget(msgspec.Struct, tag="forget", frozen=True):
    """Server → supervisor: the kernel's end was noted; drop its record."""

    id: str


class SaveState(msgspec.Struct, tag="state", frozen=True):
    """Server → supervisor: the /init state for the next server process."""

    state: bytes


class KeepProcess(msgspec.Struct, tag="keep", frozen=True):
    """Server → supervisor, with descriptors: hold a client's command for the next server process."""

    pid: int
    config: bytes
    """The ``ProcessConfig`` in binary."""
    tag: str | None
    names: tuple[str, ...]
    """What each descriptor is: ``pidfd``, ``stdin``, ``stdout``, ``stderr``, ``pty``."""
    deadline: float | None
    """Monotonic time at which the command is to be killed."""


class DropStdin(msgspec.Struct, tag="drop-stdin", frozen=True):
    """Server → supervisor: a held command's standard input was closed."""

    pid: int


class ReleaseProcess(msgspec.Struct, tag="release", frozen=True):
    """Server → supervisor: a held command has ended."""

    pid: int


class Started(msgspec.Struct, tag="started", frozen=True):
    """Supervisor → server."""

    id: str
    pid: int


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """Supervisor → server: the kernel could not be started; no record is kept."""

    id: str
    reason: str


class Exited(msgspec.Struct, tag="exited", frozen=True):
    """Supervisor → server: the kernel process is gone. ``status`` ≥ 0: exit code, < 0: minus the signal."""

    id: str
    status: int


class ProcessEnded(msgspec.Struct, tag="process-ended", frozen=True):
    """Supervisor → server: a command that an earlier server had started is gone."""

    pid: int
    status: int
    """As ``waitpid`` gives it."""


Request = StartKernel | SignalKernel | Remember | Forget | SaveState | KeepProcess | DropStdin | ReleaseProcess
Report = Started | Failed | Exited | ProcessEnded

_encode = msgspec.msgpack.Encoder().encode
_requests: msgspec.msgpack.Decoder[Request] = msgspec.msgpack.Decoder(Request)
_reports: msgspec.msgpack.Decoder[Report] = msgspec.msgpack.Decoder(Report)


class KernelRecord(msgspec.Struct):
    """What the supervisor knows of one kernel; handed to each new server process."""

    start: StartKernel
    pid: int
    memo: bytes
    status: int | None = None
    """Exit status in the form of ``Exited``; None while it lives."""


class ProcessRecord(msgspec.Struct):
    """What the supervisor knows of a command that was handed over; each new server process gets it."""

    keep: KeepProcess
    descriptors: dict[str, int]
    status: int | None = None
    """Wait status; None while it lives, or when its server had reaped it."""


def send(sock: socket.socket, message: Request | Report, descriptors: Sequence[int] = ()) -> None:
    """Send one message on a non-blocking socket, with copies of ``descriptors``. Raises ``BlockingIOError`` when the
    buffer is full, ``OSError`` when the peer is gone.
    """
    data = _encode(message)
    if len(data) <= INLINE_MAX:
        if descriptors:
            socket.send_fds(sock, [_INLINE + data], descriptors)
        else:
            sock.send(_INLINE + data)
        return
    fd = os.memfd_create("message", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        socket.send_fds(sock, [_IN_FILE], [fd, *descriptors])
    finally:
        os.close(fd)


def receive_request(sock: socket.socket) -> tuple[Request | None, list[int]]:
    """The next request with its descriptors, now the caller's, or None at end of file. Raises ``BlockingIOError`` when
    there is none yet, ``msgspec.DecodeError`` on garbage.
    """
    data, descriptors = _receive(sock)
    try:
        return (_requests.decode(data) if data else None), descriptors
    except msgspec.DecodeError:
        _close(descriptors)
        raise


def receive_report(sock: socket.socket) -> Report | None:
    """The next report, or None at end of file. Raises ``BlockingIOError`` when there is none yet."""
    data, descriptors = _receive(sock)
    _close(descriptors)
    return _reports.decode(data) if data else None


def _receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    # 3.11 drops flags: the socket is non-blocking
    packet, fds, _, _ = socket.recv_fds(sock, INLINE_MAX + 1, 1 + MAX_DESCRIPTORS)
    if packet[:1] != _IN_FILE:
        return packet[1:], fds
    if not fds:
        raise msgspec.DecodeError("a message announced a descriptor and brought none")
    try:
        size = os.fstat(fds[0]).st_size
        if size > MESSAGE_MAX:
            raise msgspec.DecodeError(f"message of {size} bytes, at most {MESSAGE_MAX} are allowed")
        data = os.pread(fds[0], size, 0)
    except BaseException:
        _close(fds[1:])
        raise
    finally:
        os.close(fds[0])
    return data, fds[1:]


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
