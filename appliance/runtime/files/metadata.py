"""Metadata of uploads: ``X-Metadata-<Key>`` headers, kept as extended attributes ``user.e2b.<key>``."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from typing import Final

from appliance.runtime.filesystem.entries import METADATA_PREFIX
from appliance.runtime.http import Header, HttpError

_HEADER: Final = b"x-metadata-"
_MAX_NAME: Final = 246
_MAX_VALUE: Final = 4096
_UNSUPPORTED: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)


def metadata_of(headers: Iterable[Header]) -> dict[str, str]:
    """The metadata in the headers, of a repeated one the first. Raises ``HttpError`` 400 when one breaks a limit."""
    found: dict[str, str] = {}
    for raw, content in headers:
        if not raw.startswith(_HEADER):
            continue
        key, value = raw[len(_HEADER) :].decode("latin-1"), content.decode("latin-1")
        if not key or len(METADATA_PREFIX) + len(key) > _MAX_NAME:
            limit = _MAX_NAME - len(METADATA_PREFIX)
            raise HttpError(400, f"metadata key {key!r}: expected 1 to {limit} characters")
        if len(value) > _MAX_VALUE:
            raise HttpError(400, f"metadata value of {key!r}: expected at most {_MAX_VALUE} characters")
        if not (value.isascii() and (value.isprintable() or not value)):
            raise HttpError(400, f"metadata value of {key!r}: expected printable ASCII")
        found.setdefault(key.lower(), value)
    return found


def replace_metadata(descriptor: int, metadata: Mapping[str, str], *, existed: bool) -> None:
    """Make ``metadata`` the whole set of the file.

    Raises ``OSError``, and ``HttpError`` 400 when the file system cannot hold metadata that was asked for.
    """
    if existed:
        _clear(descriptor)
    for key, value in metadata.items():
        try:
            os.setxattr(descriptor, METADATA_PREFIX + key, value.encode())
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                raise HttpError(400, "metadata: this file system has no extended attributes") from None
            raise


def _clear(descriptor: int) -> None:
    try:
        names = os.listxattr(descriptor)
    except OSError:
        return
    for name in names:
        if name.startswith(METADATA_PREFIX):
            os.removexattr(descriptor, name)
