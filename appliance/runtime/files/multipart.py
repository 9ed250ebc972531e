"""Multipart bodies as events, without a socket and without keeping the body.

``feed`` takes bytes as they come and yields ``PartStart``, ``bytes`` and ``PartEnd``. Held back is only what could be
the beginning of a boundary. Source: RFC 2046 §5.1, RFC 7578.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import unquote

from appliance.runtime.http import HttpError

_MAX_HEAD: Final = 16 * 1024
_MAX_BOUNDARY: Final = 200
_CHARSETS: Final = ("", "utf-8", "iso-8859-1", "us-ascii")
"""Character sets of ``filename*`` (RFC 8187); others of Python's many codecs are not for strangers to choose."""
_PARAMETER: Final = re.compile(r';\s*([!#$%&\'*+\-.^_`|~\w]+)\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;]*)')


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins."""

    name: str | None
    filename: str | None
    """The full file name as sent, directories included."""


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete."""


class _State(Enum):
    PREAMBLE = auto()
    AFTER_BOUNDARY = auto()
    HEAD = auto()
    BODY = auto()
    DONE = auto()


Event = PartStart | PartEnd | bytes


def boundary_of(content_type: str) -> bytes:
    """The boundary in a Content-Type header. Raises ``HttpError`` 400."""
    boundary = parameters(content_type).get("boundary", "")
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        raise HttpError(400, "Content-Type: expected multipart/form-data with a boundary")
    return boundary.encode("latin-1", "replace")


def parameters(header: str) -> dict[str, str]:
    """The parameters of a header value, names in lower case, quotes removed."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(header):
        name, value = match[1].lower(), match[2]
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        found[name] = value
    return found


class MultipartParser:
    """State of one body. After the last ``feed`` call ``close``."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._state = _State.PREAMBLE
        self._buffer = bytearray(b"\r\n")  # so that a boundary at the very start looks like every other

    def feed(self, data: bytes) -> Iterator[Event]:
        """Events that ``data`` completes. Raises ``HttpError`` 400 on a malformed body."""
        if self._state is _State.BODY and not self._buffer and not self._delimits(data):
            # The middle of a file, nearly always: handed on as it came, without a copy.
            kept = self._beginning(data)
            self._buffer += data[len(data) - kept :]
            if plain := data[: len(data) - kept] if kept else data:
                yield plain
            return
        self._buffer += data
        while True:
            before = (self._state, len(self._buffer))
            if self._state in (_State.PREAMBLE, _State.BODY):
                yield from self._until_boundary()
            elif self._state is _State.AFTER_BOUNDARY:
                self._after_boundary()
            elif self._state is _State.HEAD:
                yield from self._head()
            else:
                self._buffer.clear()  # the epilogue
            if before == (self._state, len(self._buffer)):
                return

    def _delimits(self, data: bytes) -> bool:
        at = data.find(b"\r")  # one byte is sought ten times faster than several
        return at >= 0 and data.find(self._delimiter, at) >= 0

    @property
    def in_file(self) -> bool:
        """In the middle of a part, with nothing held back: ``scan`` may be used."""
        return self._state is _State.BODY and not self._buffer

    def scan(self, data: bytearray, size: int) -> tuple[int, bool]:
        """How many of the first ``size`` bytes of ``data`` belong to the part, and whether its delimiter follows.

        What follows is to be given again, with more behind it, or to ``feed``. See ``intake.Scan``.
        """
        at = data.find(b"\r", 0, size)
        if at >= 0 and (at := data.find(self._delimiter, at, size)) >= 0:
            return at, True
        return size - self._beginning(data[max(0, size - len(self._delimiter)) : size]), False

    def close(self) -> None:
        """The body is over. Raises ``HttpError`` 400 when it is cut off."""
        if self._state is not _State.DONE:
            raise HttpError(400, "the multipart body ends before its last boundary")

    def _until_boundary(self) -> Iterator[Event]:
        at = self._buffer.find(self._delimiter)
        end = at if at >= 0 else len(self._buffer) - self._beginning(self._buffer)
        if end and self._state is _State.BODY:
            with memoryview(self._buffer) as view:
                yield bytes(view[:end])
        if at >= 0:
            if self._state is _State.BODY:
                yield PartEnd()
            self._state = _State.AFTER_BOUNDARY
            end += len(self._delimiter)
        del self._buffer[:end]

    def _beginning(self, data: bytes | bytearray) -> int:
        """How many of the last bytes of ``data`` may be the beginning of a delimiter."""
        tail = bytes(data[-len(self._delimiter) + 1 :])
        at = tail.find(b"\r")
        while at >= 0 and not self._delimiter.startswith(tail[at:]):
            at = tail.find(b"\r", at + 1)
        return len(tail) - at if at >= 0 else 0

    def _after_boundary(self) -> None:
        """Either ``--`` (the end) or optional blanks and a line end (a part)."""
        if self._buffer.startswith(b"--"):
            self._state = _State.DONE
            return
        end = self._buffer.find(b"\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise HttpError(400, "the multipart body has a malformed boundary")
            return
        if self._buffer[:end].strip(b" \t"):
            raise HttpError(400, "the multipart body has a malformed boundary")
        del self._buffer[:end]  # keeps the line end: the head ends with an empty line even when it is empty
        self._state = _State.HEAD

    def _head(self) -> Iterator[Event]:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD:
                raise HttpError(400, "the head of a multipart part is too large")
            return
        head = bytes(self._buffer[:end]).decode("utf-8", "surrogateescape")
        # The line end before the body stays: a body that is empty is followed by the delimiter's own.
        del self._buffer[: end + 4]
        self._state = _State.BODY
        yield _part(head)


def _part(head: str) -> PartStart:
    for line in head.split("\r\n"):
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-disposition":
            found = parameters(value)
            return PartStart(found.get("name"), _filename(found))
    return PartStart(None, None)


def _filename(found: dict[str, str]) -> str | None:
    """``filename*`` (RFC 5987) before ``filename``."""
    extended = found.get("filename*")
    if extended is not None and extended.count("'") >= 2:
        charset, _, rest = extended.split("'", 2)
        if charset.lower() not in _CHARSETS:
            raise HttpError(400, f"filename*: expected the character set UTF-8 or ISO-8859-1, got {charset[:40]!r}")
        try:
            return unquote(rest, encoding=charset or "utf-8", errors="strict")
        except UnicodeDecodeError:
            raise HttpError(400, f"filename*: expected percent-encoded {charset or 'UTF-8'}") from None
    return found.get("filename")
