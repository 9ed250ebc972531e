"""Response heads: just enough to know where the answer ends and what may go on to the client.

The server behind us is the user's program: it is not trusted. An answer whose framing is doubtful (two lengths, unknown
codings) is refused, because the client's connection may next carry the answer of another sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import httptools

from appliance.gateway.bodies import Body, ChunkedBody, LengthBody, UntilClose


class BadResponse(Exception):
    """The upstream's head cannot be understood; the client gets 502."""


class ResponseHead:
    """One response head. Class attributes are the values of absent fields."""

    status = 0
    reason = b""
    http10 = False
    length: int | None = None
    chunked = False
    upgrade: bytes | None = None
    fault: str | None = None
    _complete = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []
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
        self._complete = True

    def finish(self, parser: httptools.HttpResponseParser) -> None:
        """Settle what depends on several fields. Raises BadResponse."""
        if not self._complete:
            raise BadResponse("the head is malformed")
        self.status = parser.get_status_code()
        self.http10 = parser.get_http_version() != "1.1"
        if self.fault is not None or not 100 <= self.status <= 999:
            raise BadResponse(self.fault or "the status is not a number of three digits")
        nominated = frozenset(self.connection) - {b"close", b"keep-alive", b"upgrade", b""}
        if nominated:
            self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in nominated]

    @property
    def reusable(self) -> bool:
        """The upstream keeps its connection open after this answer."""
        if self.http10:
            return b"keep-alive" in self.connection
        return b"close" not in self.connection

    def body(self, method: bytes, *, decode: bool) -> Body | None:
        """The framing of the body that follows (RFC 9112 §6.3), None without one."""
        if method == b"HEAD" or self.status in (204, 304) or self.status < 200:
            return None
        if self.chunked:
            return ChunkedBody(decode=decode)
        if self.length is None:
            return UntilClose()
        return LengthBody(self.length) if self.length else None

    def compose(self, connection: bytes | None, *, decoded: bool) -> bytes:
        """The head for the client; ``connection`` is the value of that field, ``decoded``: chunks were taken off."""
        parts = [b"HTTP/1.1 %d %b" % (self.status, self.reason), *self.lines]
        if self.chunked and not decoded and self.status not in (204, 304) and self.status >= 200:
            parts.append(b"Transfer-Encoding: chunked")
        elif self.length is not None and self.status != 204 and self.status >= 200:
            parts.append(b"Content-Length: %d" % self.length)
        if self.upgrade is not None and self.status in (101, 426):
            parts.append(b"Upgrade: " + self.upgrade)
        if connection is not None:
            parts.append(b"Connection: " + connection)
        parts.append(b"\r\n")
        return b"\r\n".join(parts)


def parse_response(head: bytes) -> ResponseHead:
    """Read one complete head, ``head`` ending with its empty line. Raises BadResponse."""
    response = ResponseHead()
    parser = httptools.HttpResponseParser(response)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # 101: the caller switches to raw bytes
    except httptools.HttpParserError as error:
        raise BadResponse(f"the head is malformed: {error}") from None
    response.finish(parser)
    return response


def _dropped(head: ResponseHead, value: bytes) -> None:
    """A field of one hop."""


def _connection(head: ResponseHead, value: bytes) -> None:
    head.connection += [token.strip(b" \t").lower() for token in value.split(b",")]


def _content_length(head: ResponseHead, value: bytes) -> None:
    head.length = int(value)  # llhttp has seen digits only, and one field only


def _transfer_encoding(head: ResponseHead, value: bytes) -> None:
    if head.chunked or value.lower() != b"chunked":
        head.fault = "its Transfer-Encoding is not chunked"
    head.chunked = True


def _upgrade(head: ResponseHead, value: bytes) -> None:
    head.upgrade = value


_SPECIAL: Final[dict[bytes, Callable[[ResponseHead, bytes], None]]] = {
    b"connection": _connection,
    b"keep-alive": _dropped,
    b"proxy-connection": _dropped,
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"upgrade": _upgrade,
}
