"""Requests of HTTP/1.x on their way to a server, with headers set by a rule. No socket is touched.

A head is read strictly: what two servers could read differently is refused, because a header that is set must never
end up in a request to somebody else. So a request has one ``Host``, which is the server's; one length, by
``Content-Length`` or by the chunked coding; no folded lines and no bare line feeds (RFC 9112 §2.2, §5, §6.3). A
header that a rule sets replaces all of that name. Everything else is passed on as it came, in its order.

Upgrades other than to WebSocket are taken out of a request: after one, requests could not be read any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from appliance.embedded.filter.heads import MAX_HEAD, Refused, asked_name

END: Final = b"\r\n\r\n"
MAX_LINE: Final = 8 * 1024
"""Bytes of one line between chunks: a size with its extensions, or a trailer field."""
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE: Final = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*")
_LINE: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP/1\.([01])")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_SWITCHED: Final = re.compile(rb"HTTP/1\.1 101(?:[ \r\n]|$)")
_INTERIM: Final = re.compile(rb"HTTP/1\.[01] 1\d\d(?:[ \r\n]|$)")

Fields = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Outgoing:
    """A request as it is sent on."""

    head: bytes
    length: int | None
    """Bytes of the body; None: it is chunked."""
    upgrade: bool
    """It asks for WebSocket: after the answer 101 nothing is HTTP any more."""


def rewrite(head: bytes, server: str, headers: Mapping[str, str]) -> Outgoing:
    """The request whose head, with the empty line, this is, for ``server``. Raises ``Refused``."""
    lines = head.removesuffix(END).split(b"\r\n")
    line = _LINE.fullmatch(lines[0])
    if line is None:
        raise Refused("no HTTP/1 request")
    fields = [_field(one) for one in lines[1:]]
    name = asked_name(line[1], line[2], _values(fields, b"host"))
    if name != server:
        raise Refused(f"a request for {name[:253]} on a connection to {server}")
    length = _length(fields, line[3] == b"1")
    fields, upgrade = _upgrade(fields)
    if upgrade and length != 0:
        raise Refused("a request for WebSocket with a body")
    replaced = {one.lower().encode() for one in headers}
    kept = [(own, value) for own, value in fields if own.lower() not in replaced]
    kept += [(own.encode(), value.encode()) for own, value in headers.items()]
    return Outgoing(b"\r\n".join([lines[0], *(own + b": " + value for own, value in kept)]) + END, length, upgrade)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not colon or _TOKEN.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise Refused("a malformed header")
    return name, value


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for own, value in fields if own.lower() == name]


def _length(fields: Fields, modern: bool) -> int | None:
    lengths, codings = _values(fields, b"content-length"), _values(fields, b"transfer-encoding")
    if codings:
        if lengths or not modern or len(codings) != 1 or codings[0].lower() != b"chunked":
            raise Refused("an ambiguous length")
        return None
    if not lengths:
        return 0
    if len(lengths) != 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise Refused("an ambiguous length")
    return int(lengths[0])


def _upgrade(fields: Fields) -> tuple[Fields, bool]:
    wanted = _values(fields, b"upgrade")
    if not wanted:
        return fields, False
    if len(wanted) == 1 and wanted[0].lower() == b"websocket":
        return fields, True
    return [(own, value) for own, value in fields if own.lower() not in (b"upgrade", b"http2-settings")], False


class Chunks:
    """Follows a chunked body to its end, trailer included (RFC 9112 §7.1). One body only."""

    def __init__(self) -> None:
        self._left = 0
        """Bytes of the present chunk, with its line end, that are to come."""
        self._line = bytearray()
        self._trailer = 0
        self._last = self.done = False
        """``done``: the body has ended."""

    def feed(self, data: bytes) -> int:
        """How many of the bytes belong to the body. Raises ``Refused``."""
        at = 0
        while at < len(data) and not self.done:
            at = self._content(data, at) if self._left else self._text(data, at)
        return at

    def _content(self, data: bytes, at: int) -> int:
        """Inside a chunk; its two last bytes are the line end."""
        step = min(self._left, len(data) - at)
        ending = b"\r\n"[max(0, 2 - self._left) :]
        for offset in range(max(0, self._left - 2), step):
            if data[at + offset] != ending[offset - max(0, self._left - 2)]:
                raise Refused("a chunk that does not end where it says")
        self._left -= step
        return at + step

    def _text(self, data: bytes, at: int) -> int:
        """In a line: a chunk's size, or after the last chunk a trailer field."""
        end = data.find(b"\n", at)
        self._line += data[at : len(data) if end < 0 else end + 1]
        if len(self._line) > MAX_LINE:
            raise Refused(f"a line of over {MAX_LINE} bytes in a chunked body")
        if end < 0:
            return len(data)
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r\n"):
            raise Refused("a bare line feed in a chunked body")
        self._complete(line[:-2])
        return end + 1

    def _complete(self, line: bytes) -> None:
        if self._last:
            self._trailer += len(line)
            if line:
                _field(line)
            if self._trailer > MAX_HEAD:
                raise Refused(f"a trailer of over {MAX_HEAD} bytes")
            self.done = not line
            return
        size = _SIZE.fullmatch(line)
        if size is None:
            raise Refused("a malformed chunk")
        content = int(size[1], 16)
        self._left, self._last = content + 2 if content else 0, not content


class Switch:
    """Reads the start of a server's answer to a request for WebSocket."""

    def __init__(self) -> None:
        self._seen = bytearray()

    def feed(self, data: bytes) -> bool | None:
        """Whether the server has switched; None while that is open."""
        self._seen += data
        while True:
            if len(self._seen) < len(b"HTTP/1.1 101 "):
                return None
            if _SWITCHED.match(self._seen):
                return True
            if not _INTERIM.match(self._seen):
                return False
            end = self._seen.find(END)
            if end < 0:
                return None if len(self._seen) <= MAX_HEAD else False
            del self._seen[: end + len(END)]
