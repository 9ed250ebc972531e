"""User namespaces made to measure, by a small process beside the template.

A sandbox's mounts must be shown through its id map before its own first process joins that namespace, so the
namespace must exist earlier. Forking the big template a second time for it would double the cost of a start; this
maker is forked before the template imports anything, so its forks are cheap.
"""

from __future__ import annotations

import os
import signal
import socket
import struct

from appliance.embedded.node import syscalls

SIZE = 65_536
"""Ids in one sandbox's range."""
_QUESTION = struct.Struct("=I")


class NamespaceMaker:
    """The template's end: ``make`` may be called in any fork of the template, also at the same time."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            _serve(theirs)
        theirs.close()
        self.socket = ours

    def make(self, first: int) -> int:
        """A user namespace that maps 0..65535 to ``first``..; returns its descriptor. Raises ``OSError``."""
        mine, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with mine, other:
            mine.settimeout(10.0)
            socket.send_fds(self.socket, [_QUESTION.pack(first)], [other.fileno()])
            other.close()
            text, fds, _, _ = socket.recv_fds(mine, 256, 1)
        if not fds:
            raise OSError(1, text.decode() or "the user namespace maker is gone")
        return fds[0]


def _serve(questions: socket.socket) -> None:
    """Answer until the template and all its forks have closed their end."""
    syscalls.set_name("appliance-idmap")
    try:
        while True:
            text, fds, _, _ = socket.recv_fds(questions, 64, 1)
            if not text:
                os._exit(0)
            with socket.socket(fileno=fds[0]) as answer:
                try:
                    _answer(answer, _QUESTION.unpack(text)[0])
                except OSError as error:
                    answer.send(f"user namespace: {error}".encode())
    finally:
        os._exit(1)


def _answer(answer: socket.socket, first: int) -> None:
    """Fork a child into a new namespace, write its maps, hand over its descriptor, end the child."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _wait_in_namespace(write_end)
    try:
        os.close(write_end)
        if os.read(read_end, 1) != b"k":
            raise OSError(1, "unshare(CLONE_NEWUSER) was refused")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(f"0 {first} {SIZE}\n")
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            socket.send_fds(answer, [b"ok"], [fd])
        finally:
            os.close(fd)
    finally:
        os.close(read_end)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _wait_in_namespace(ready: int) -> None:
    try:
        syscalls.prctl(syscalls.PR_SET_PDEATHSIG, signal.SIGKILL)
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        os.write(ready, b"k")
        signal.pause()
    finally:
        os._exit(1)
