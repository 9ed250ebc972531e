"""The kind of a file system, which Python's ``os.statvfs`` does not tell: ``f_type`` of ``statfs(2)``."""

from __future__ import annotations

import ctypes
import os
from typing import Final

_OVERLAY: Final = 0x794C7630  # Linux's magic.h
_libc = ctypes.CDLL(None, use_errno=True)


def magic(path: str) -> int:
    """``f_type`` of the file system that holds ``path``; 0 when it cannot be told."""
    buffer = ctypes.create_string_buffer(256)  # struct statfs is 120 bytes; its first word is f_type
    if _libc.statfs(os.fsencode(path), buffer) != 0:
        return 0
    return ctypes.c_ulong.from_buffer(buffer).value & 0xFFFFFFFF


def on_overlay(path: str) -> bool:
    """Whether ``path`` is on an overlay, where a write may first copy a whole file from a lower layer."""
    return magic(path) == _OVERLAY
