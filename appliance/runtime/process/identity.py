"""Being somebody else for the length of one spawn.

Linux keeps credentials per thread; only libc's wrappers spread a change over the process. The raw system calls here
change the calling thread alone: real and effective ids become the user's, the saved uid stays 0, so the way back is
open; ``execve`` in the child copies the effective id over the saved one, so the child has no way back. With the
thread *being* the user, ``posix_spawn`` (which shares memory until exec and costs 0.6 ms) gives the child the right
credentials and every access check is the kernel's own. The alternative, ``subprocess`` with ``user=``, must fork: 2.2
ms from a server of 50 MiB.

Nothing may run between entering and leaving but the spawn itself: no await, no callback.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, lru_cache
from typing import Final

from appliance.runtime.users import User

# (setgroups, setresuid, setresgid) by machine: arch/*/syscall tables of Linux.
_NUMBERS: Final = {"x86_64": (116, 117, 119), "aarch64": (159, 147, 149), "riscv64": (159, 147, 149)}
_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2

_libc = ctypes.CDLL(None, use_errno=True)


class CannotSwitch(PermissionError):
    """This process may not run programs as that user."""


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """The calling thread has ``user``'s uid, gid and groups inside. Raises ``CannotSwitch``.

    When the way back fails the process ends at once: a server that continues as somebody else would be worse than one
    that its supervisor starts again.
    """
    if os.geteuid() == user.uid and os.geteuid() != 0:
        yield  # an unprivileged runtime running something as itself
        return
    if os.geteuid() != 0:
        raise CannotSwitch(f"cannot run as '{user.name}': the runtime itself runs as uid {os.geteuid()}, not as root")
    groups = tuple(os.getgroups())
    signal_of_parent = _parent_death_signal()
    try:
        _become(user.groups, user.gid, user.uid)
        yield
    finally:
        _return(groups)
        if signal_of_parent:  # the kernel clears it at each change of credentials
            _libc.prctl(_PR_SET_PDEATHSIG, signal_of_parent, 0, 0, 0)


def _parent_death_signal() -> int:
    value = ctypes.c_int(0)
    _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(value), 0, 0, 0)
    return value.value


@cache
def _numbers() -> tuple[int, int, int]:
    try:
        return _NUMBERS[platform.machine()]
    except KeyError:
        raise CannotSwitch(f"cannot switch users on {platform.machine()}: unknown system call numbers") from None


def _call(number: int, *arguments: object) -> None:
    if _libc.syscall(number, *arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


@lru_cache(64)
def _groups_argument(groups: tuple[int, ...]) -> tuple[int, ctypes.Array[ctypes.c_uint32]]:
    return len(groups), (ctypes.c_uint32 * max(1, len(groups)))(*groups)


def _become(groups: tuple[int, ...], gid: int, uid: int) -> None:
    setgroups, setresuid, setresgid = _numbers()
    try:
        _call(setgroups, *_groups_argument(groups))
        _call(setresgid, gid, gid, 0)
        _call(setresuid, uid, uid, 0)
    except OSError as error:
        raise CannotSwitch(f"cannot become uid {uid}, gid {gid}: {error.strerror}") from error


def _return(groups: tuple[int, ...]) -> None:
    setgroups, setresuid, setresgid = _numbers()
    try:
        _call(setresuid, 0, 0, 0)  # first: it brings the capabilities back that the others need
        _call(setresgid, 0, 0, 0)
        _call(setgroups, *_groups_argument(groups))
    except OSError:
        os._exit(70)
