"""What ``ps`` shows for a process that was forked and never executed a program of its own.

Such a process inherits the command line of the one it was forked from: in a sandbox the template's, with paths of the
box in it. The kernel reads a command line from the process's memory, so it is overwritten there. A last byte that is
not NUL tells the kernel that the title may be shorter than the area (the convention of ``setproctitle``).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

_PR_SET_NAME: Final = 15
_ARG_START: Final = 47
"""Index of ``arg_start`` among the fields of ``/proc/PID/stat`` (proc(5), field 48); ``arg_end`` follows."""
_libc: Final = ctypes.CDLL(None, use_errno=True)


def show(title: str, name: str) -> None:
    """Make ``title`` the command line and ``name`` (at most 15 bytes) the name of this process.

    Best effort: where /proc is missing or hides the area, the command line stays as it is. Call it from the main
    thread; the environment and ``sys.argv`` are untouched.
    """
    _libc.prctl(_PR_SET_NAME, ctypes.create_string_buffer(name.encode()[:15]), 0, 0, 0)
    start, end = _area()
    size = end - start
    if size < 2:
        return
    text = title.encode()[: size - 2].ljust(size - 1, b"\0") + b"\xff"
    ctypes.memmove(start, text, size)


def _area() -> tuple[int, int]:
    """First and last address of the command line; (0, 0) when unknown."""
    try:
        stat = Path(f"/proc/self/task/{_own_number()}/stat").read_text(errors="replace")
    except OSError:
        return 0, 0
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold blanks; here index 0 is field 3
    return int(fields[_ARG_START - 2]), int(fields[_ARG_START - 1])


def _own_number() -> str:
    """This process's number as its /proc knows it: right after a fork into a new pid namespace it is not ours."""
    return os.readlink("/proc/self")
