"""The few Linux calls Python 3.11 has no name for: namespaces, mounts, idmapped mounts, process control.

Every function raises ``OSError`` with the call and its subject in the text, so that a failed sandbox start says
which step the kernel refused. Constants are those of the kernel's UAPI headers; system call numbers from 424 up are
the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_NOATIME = 1024
MNT_DETACH = 2

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH = 4
MOUNT_ATTR_RDONLY = 1
MOUNT_ATTR_NOSUID = 2
MOUNT_ATTR_NODEV = 4
MOUNT_ATTR_IDMAP = 0x00100000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15

_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), f"unshare({flags:#x})")


def setns(fd: int, flags: int) -> None:
    """setns(2); with a pidfd ``flags`` may name several namespaces."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)), f"setns({flags:#x})")


def mount(source: str, target: str, fstype: str | None, flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    kind = fstype.encode() if fstype else None
    result = _libc.mount(source.encode(), target.encode(), kind, ctypes.c_ulong(flags), options.encode() or None)
    _check(result, f"mount {fstype or 'bind'} {source} on {target} ({options})")


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _check(_libc.umount2(target.encode(), ctypes.c_int(flags)), f"umount {target}")


def clone_tree(path: str, *, recursive: bool = False) -> int:
    """A detached copy of the mount at ``path``, as a file descriptor (open_tree)."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    result = _libc.syscall(_SYS_OPEN_TREE, ctypes.c_int(AT_FDCWD), path.encode(), ctypes.c_uint(flags))
    return _check(result, f"open_tree {path}")


def set_tree_attributes(fd: int, attributes: int, *, userns: int = 0, recursive: bool = False) -> None:
    """mount_setattr on a detached mount: read-only, nosuid, nodev, or shown through the id map of ``userns``."""
    attr = struct.pack("QQQQ", attributes, 0, 0, userns)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, ctypes.c_int(fd), b"", ctypes.c_uint(flags), attr, ctypes.c_size_t(len(attr))
    )
    _check(result, f"mount_setattr({attributes:#x})")


def attach_tree(fd: int, target: str) -> None:
    """move_mount of a detached mount onto ``target``; closes ``fd``."""
    try:
        result = _libc.syscall(
            _SYS_MOVE_MOUNT,
            ctypes.c_int(fd),
            b"",
            ctypes.c_int(AT_FDCWD),
            target.encode(),
            ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
        )
        _check(result, f"move_mount on {target}")
    finally:
        os.close(fd)


def bind(source: str, target: str, attributes: int = 0, *, userns: int = 0, recursive: bool = False) -> None:
    """Bind ``source`` on ``target`` with mount attributes, through an id map when ``userns`` is a descriptor."""
    fd = clone_tree(source, recursive=recursive)
    try:
        if userns:
            attributes |= MOUNT_ATTR_IDMAP
        if attributes:
            set_tree_attributes(fd, attributes, userns=userns, recursive=recursive)
    except OSError:
        os.close(fd)
        raise
    attach_tree(fd, target)


def pivot_into(root: str) -> None:
    """Make ``root`` (a mount point) the process's root; the old root, with all below it, is detached."""
    os.chdir(root)
    number = _SYS_PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(number, b".", b"."), f"pivot_root {root}")
    umount(".", MNT_DETACH)
    os.chdir("/")


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument."""
    _check(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), 0, 0, 0), f"prctl({option})")


def set_name(name: str) -> None:
    """The process's name as ``ps`` shows it, at most 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    _check(_libc.prctl(ctypes.c_int(PR_SET_NAME), buffer, 0, 0, 0), "prctl(PR_SET_NAME)")


def sethostname(name: str) -> None:
    """sethostname(2)."""
    data = name.encode()
    _check(_libc.sethostname(data, ctypes.c_size_t(len(data))), f"sethostname {name}")
