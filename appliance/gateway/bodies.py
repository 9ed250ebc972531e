"""Where a message body ends: the three framings of HTTP/1.1, without touching the bytes.

A framing is fed what arrived and says how much of it belongs to the body; the caller forwards exactly that. Chunked
bodies are passed on as they are, so the scanner must be as strict as the strictest server behind us: what it lets
through, everybody has to read in the same way (bare LF, odd extensions and signs in sizes are refused).
"""

from __future__ import annotations

import re
from typing import Final, Protocol

MAX_SIZE_LINE: Final = 1024
"""Bytes of one chunk-size line with its extensions."""
MAX_TRAILERS: Final = 16 * 1024
"""Bytes of the trailer section."""

_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


class BodyError(ValueError):
    """The body breaks its own framing; the connection cannot be trusted any more."""


class Body(Protocol):
    """One body in one direction."""

    done: bool
    """The end was seen: nothing more belongs to this body."""

    def feed(self, data: bytes) -> int:
        """Take the next bytes of the connection; how many of them belong to the body. Raises BodyError."""
        ...


class LengthBody:
    """``Content-Length``."""

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> int:
        size = len(data)
        if size < self.left:
            self.left -= size
            return size
        size, self.left, self.done = self.left, 0, True
        return size


class UntilClose:
    """An answer that ends with its connection; only the upstream's end of file finishes it."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> int:
        return len(data)


class ChunkedBody:
    """``Transfer-Encoding: chunked``; optionally keeps the payload for clients that cannot read chunks."""

    __slots__ = ("_in_trailers", "_left", "_line", "_trailers", "done", "payload", "size")

    def __init__(self, *, decode: bool = False) -> None:
        """``decode`` collects the payload in ``payload``; the caller empties it after each ``feed``."""
        self.done = False
        self.size = 0
        """Payload bytes announced so far, for limits."""
        self.payload: list[bytes] | None = [] if decode else None
        self._left = 0  # bytes of the current chunk still to come, with its CRLF
        self._line = b""  # an incomplete line, at most MAX_SIZE_LINE or MAX_TRAILERS
        self._in_trailers = False
        self._trailers = 0

    def feed(self, data: bytes) -> int:
        pos, end = 0, len(data)
        while pos < end and not self.done:
            pos = self._chunk(data, pos, end) if self._left else self._read_line(data, pos, end)
        return pos

    def _chunk(self, data: bytes, pos: int, end: int) -> int:
        """Pass over chunk data and check the CRLF behind it, byte for byte where it is split."""
        take = min(self._left, end - pos)
        after = self._left - take
        if self.payload is not None and self._left > 2:
            self.payload.append(data[pos : pos + min(take, self._left - 2)])
        if after < 2:
            expected = b"\r\n"[max(0, 2 - self._left) : 2 - after]
            if data[pos + take - len(expected) : pos + take] != expected:
                raise BodyError("a chunk is longer than its size says")
        self._left = after
        return pos + take

    def _read_line(self, data: bytes, pos: int, end: int) -> int:
        """One chunk-size or trailer line, maybe over several reads."""
        limit = MAX_TRAILERS if self._in_trailers else MAX_SIZE_LINE
        stop = data.find(b"\n", pos, pos + limit + 2)
        if stop < 0:
            self._line += data[pos : pos + limit + 2]
            if len(self._line) > limit:
                raise BodyError("a chunk-size or trailer line is too long")
            return end
        line = self._line + data[pos : stop + 1] if self._line else data[pos : stop + 1]
        self._line = b""
        if line[-2:] != b"\r\n" or len(line) > limit + 2:
            raise BodyError("a chunk-size or trailer line must end with CRLF")
        (self._trailer if self._in_trailers else self._size)(line[:-2])
        return stop + 1

    def _size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise BodyError("a chunk size must be hexadecimal digits")
        size = int(match[1], 16)
        self.size += size
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _trailer(self, line: bytes) -> None:
        self._trailers += len(line) + 2
        if not line:
            self.done = True
        elif self._trailers > MAX_TRAILERS or _TRAILER_LINE.fullmatch(line) is None:
            raise BodyError("a trailer field is malformed, or there are too many")
