"""Response heads: just enough to know where the answer ends and what may go on to the client.

The server behind us is the user's program: it is not trusted. An answer whose framing is doubtful (two lengths, unknown
codings) is refused, because the client's connection may next carry the answer of another sandbox.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import httptools

from appliance.gateway.bodies import Body, ChunkedBody, LengthBody, UntilClose
from appliance.gateway.request_head import REMEMBERED, REMEMBERED_SIZE

_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2}) ([\t\x20-\x7e]*)\r\n")


class BadResponse(Exception):
    """The upstream's head cannot be understood; the client gets 502."""


class ResponseFields:
    """The header fields of an answer, without its status line; shared by answers with the same bytes."""

    length: int | None = None
    chunked = False
    upgrade: bytes | None = None
    fault: str | None = None
    complete = False
    reason = b""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.block = b""
        """All that goes on to the client, joined."""
        self.connection: list[bytes] = []

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        special = _SPECIAL.get(name.lower())
        if special is None:
            self.lines.append(b"%b: %b" % (name, value))
        else:
            special(self, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self.complete = True

    def finish(self) -> None:
        """Settle what depends on several fields."""
        nominated = frozenset(self.connection) - {b"close", b"keep-alive", b"upgrade", b""}
        if nominated:
            self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in nominated]
        self.block = b"".join([b"\r\n" + line for line in self.lines])


class ResponseHead:
    """One response head."""

    __slots__ = ("fields", "reason", "reusable", "status")

    def __init__(self, status: int, reason: bytes, fields: ResponseFields, *, http10: bool) -> None:
        self.status = status
        self.reason = reason
        self.fields = fields
        if http10:
            self.reusable = b"keep-alive" in fields.connection
            """The upstream keeps its connection open after this answer."""
        else:
            self.reusable = not fields.connection or b"close" not in fields.connection

    def body(self, method: bytes, *, decode: bool) -> Body | None:
        """The framing of the body that follows (RFC 9112 §6.3), None without one."""
        if method == b"HEAD" or self.status in (204, 304) or self.status < 200:
            return None
        fields = self.fields
        if fields.chunked:
            return ChunkedBody(decode=decode)
        if fields.length is None:
            return UntilClose()
        return LengthBody(fields.length) if fields.length else None

    def compose(self, connection: bytes | None, *, decoded: bool) -> bytes:
        """The head for the client; ``connection`` is the value of that field, ``decoded``: chunks were taken off."""
        fields, status = self.fields, self.status
        framing = b""
        if fields.chunked:
            if not decoded and status >= 200 and status not in (204, 304):
                framing = b"\r\nTransfer-Encoding: chunked"
        elif fields.length is not None and status >= 200 and status != 204:
            framing = b"\r\nContent-Length: %d" % fields.length
        if fields.upgrade is not None and status in (101, 426):
            framing += b"\r\nUpgrade: " + fields.upgrade
        if connection is not None:
            framing += b"\r\nConnection: " + connection
        return b"HTTP/1.1 %d %b%b%b\r\n\r\n" % (status, self.reason, fields.block, framing)


class ResponseReader:
    """Reads heads; remembers fields by their bytes, as ``RequestReader`` does."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, ResponseFields] = {}

    def read(self, head: bytes) -> ResponseHead:
        """Read one complete head, ``head`` ending with its empty line. Raises BadResponse."""
        line = _LINE.match(head)
        if line is not None:
            fields = self._known.get(head[line.end() :])
            if fields is not None:
                minor, status, reason = line.groups()
                return ResponseHead(int(status), reason, fields, http10=minor == b"0")
        response = _parse(head)
        if line is not None and len(head) <= REMEMBERED_SIZE:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[head[line.end() :]] = response.fields
        return response


def _parse(head: bytes) -> ResponseHead:
    fields = ResponseFields()
    parser = httptools.HttpResponseParser(fields)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # 101: the caller switches to raw bytes
    except httptools.HttpParserError as error:
        raise BadResponse(f"the head is malformed: {error}") from None
    status = parser.get_status_code()
    if not fields.complete or fields.fault is not None or not 100 <= status <= 999:
        raise BadResponse(fields.fault or "the head is malformed")
    fields.finish()
    return ResponseHead(status, fields.reason, fields, http10=parser.get_http_version() != "1.1")


def _dropped(head: ResponseFields, value: bytes) -> None:
    """A field of one hop."""


def _connection(head: ResponseFields, value: bytes) -> None:
    head.connection += [token.strip(b" \t").lower() for token in value.split(b",")]


def _content_length(head: ResponseFields, value: bytes) -> None:
    head.length = int(value)  # llhttp has seen digits only, and one field only


def _transfer_encoding(head: ResponseFields, value: bytes) -> None:
    if head.chunked or value.lower() != b"chunked":
        head.fault = "its Transfer-Encoding is not chunked"
    head.chunked = True


def _upgrade(head: ResponseFields, value: bytes) -> None:
    head.upgrade = value


_SPECIAL: Final[dict[bytes, Callable[[ResponseFields, bytes], None]]] = {
    b"connection": _connection,
    b"keep-alive": _dropped,
    b"proxy-connection": _dropped,
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"upgrade": _upgrade,
}
