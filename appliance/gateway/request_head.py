"""Request heads: what a client asked, checked, and ready to be sent on.

httptools (llhttp, strict) reads the head and is the only judge of its syntax; it is given exactly the bytes up to the
first empty line, so it and we cannot disagree on where the head ends. Fields that belong to one hop are taken out while
it reads, the ones a route depends on are kept aside, everything else is copied as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import httptools

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"})
"""Methods that may be sent twice (RFC 9110 §9.2.2)."""

_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")


class BadRequest(Exception):
    """A head that cannot be served. ``status`` is the answer's; the connection is closed after it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class RequestHead:
    """One request head. Class attributes are the values of absent fields."""

    method: bytes
    url = b""
    """The request target, in origin form once ``parse_request`` has returned."""
    http10 = False
    host: bytes | None = None
    length: int | None = None
    chunked = False
    upgrade: bytes | None = None
    """Protocols offered, when the connection may be switched."""
    user_agent = b""
    sandbox_id: bytes | None = None
    sandbox_port: bytes | None = None
    traffic_token: bytes | None = None
    preflight = False
    """A CORS preflight: browsers cannot attach a token to it."""
    keep_alive = True
    expects_continue = False
    fault: tuple[int, str] | None = None
    _complete = False
    _origin = False
    _asks_method = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        """``Name: value`` of every field that goes on as it came."""
        self.connection: list[bytes] = []
        """Tokens of ``Connection``, lower case."""
        self.forwarded: dict[bytes, bytes] = {}
        """``X-Forwarded-*`` as received, by lower-case name."""

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        special = _SPECIAL.get(name.lower())
        if special is None:
            self.lines.append(b"%b: %b" % (name, value))
        else:
            special(self, name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self._complete = True

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)

    @property
    def idempotent(self) -> bool:
        return self.method in IDEMPOTENT

    def refuse(self, status: int, message: str) -> None:
        """Remember the first fault; raising inside a parser callback would lose it."""
        if self.fault is None:
            self.fault = (status, message)

    def finish(self, parser: httptools.HttpRequestParser) -> None:
        """Settle what depends on several fields. Raises BadRequest."""
        if not self._complete:
            raise BadRequest(400, "The request head is malformed")
        self.method = parser.get_method()
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise BadRequest(505, f"HTTP/{version} is not served here, use HTTP/1.1")
        self.http10 = version == "1.0"
        self._settle_connection()
        self._settle_target()
        if self.http10 and self.chunked:
            self.refuse(400, "Transfer-Encoding needs HTTP/1.1")
        if self.host is None and not self.http10:
            self.refuse(400, "Invalid host")
        if self.fault is not None:
            raise BadRequest(*self.fault)

    def _settle_connection(self) -> None:
        tokens = self.connection
        self.keep_alive = b"close" not in tokens and (not self.http10 or b"keep-alive" in tokens)
        if self.upgrade is not None and (b"upgrade" not in tokens or self.http10):
            self.upgrade = None
        if tokens:
            self._drop_nominated(frozenset(tokens) - _OPTIONS)

    def _drop_nominated(self, names: frozenset[bytes]) -> None:
        """``Connection`` may name further fields of this hop only (RFC 9110 §7.6.1)."""
        if names:
            self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in names]

    def _settle_target(self) -> None:
        url = self.url
        if url[:1] == b"/" or (url == b"*" and self.method == b"OPTIONS"):
            pass
        elif self.method == b"CONNECT":
            self.refuse(405, "CONNECT is not served here")
        elif (match := _ABSOLUTE.fullmatch(url)) is not None:
            self.host = match[1]  # RFC 9112 §3.2.2: the target's authority wins over Host
            self.url = match[2] if match[2][:1] == b"/" else b"/" + match[2]
        else:
            self.refuse(400, "The request target must be a path or an absolute http URL")
        self.preflight = self._origin and self._asks_method and self.method == b"OPTIONS"


_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"content-length", b"host", b"http2-settings"})
"""Connection options that need no removal; nominating Content-Length or Host must not take our framing away."""


def parse_request(head: bytes) -> RequestHead:
    """Read one complete head, ``head`` ending with its empty line.

    Raises:
        BadRequest: 400 malformed, 405 CONNECT, 417 unknown expectation, 501 unknown coding, 505 unknown version.
    """
    request = RequestHead()
    parser = httptools.HttpRequestParser(request)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # we decide on upgrades by the answer, not by the request
    except httptools.HttpParserError as error:
        if request.fault is None:
            raise BadRequest(400, f"The request head is malformed: {error}") from None
        raise BadRequest(*request.fault) from None
    request.finish(parser)
    return request


# One function per field that is not simply copied ---------------------------------------------------------------


def _dropped(head: RequestHead, name: bytes, value: bytes) -> None:
    """A field of one hop."""


def _connection(head: RequestHead, name: bytes, value: bytes) -> None:
    head.connection += [token.strip(b" \t").lower() for token in value.split(b",")]


def _content_length(head: RequestHead, name: bytes, value: bytes) -> None:
    head.length = int(value)  # llhttp has seen digits only, and one field only


def _transfer_encoding(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.chunked:
        head.refuse(400, "Transfer-Encoding is given twice")
    elif value.lower() != b"chunked":
        head.refuse(501, "The only Transfer-Encoding served here is chunked")
    head.chunked = True


def _host(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.host is not None:
        head.refuse(400, "Invalid host")
    head.host = value


def _upgrade(head: RequestHead, name: bytes, value: bytes) -> None:
    # An h2c upgrade would take the connection out of our sight request by request: answered as plain HTTP/1.1.
    if value.lower() not in (b"h2c", b"h2"):
        head.upgrade = value


def _expect(head: RequestHead, name: bytes, value: bytes) -> None:
    if value.lower() != b"100-continue":
        head.refuse(417, "The only expectation served here is 100-continue")
    head.expects_continue = True
    head.lines.append(b"Expect: 100-continue")


def _user_agent(head: RequestHead, name: bytes, value: bytes) -> None:
    head.user_agent = value
    head.lines.append(b"User-Agent: " + value)


def _sandbox_id(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.sandbox_id is not None:
        head.refuse(400, "Invalid sandbox ID")
    head.sandbox_id = value
    head.lines.append(b"E2b-Sandbox-Id: " + value)


def _sandbox_port(head: RequestHead, name: bytes, value: bytes) -> None:
    if head.sandbox_port is not None:
        head.refuse(400, "Invalid sandbox port")
    head.sandbox_port = value
    head.lines.append(b"E2b-Sandbox-Port: " + value)


def _traffic_token(head: RequestHead, name: bytes, value: bytes) -> None:
    head.traffic_token = value  # for us, not for the program in the sandbox


def _forwarded(head: RequestHead, name: bytes, value: bytes) -> None:
    key = name.lower()
    head.forwarded[key] = head.forwarded[key] + b", " + value if key in head.forwarded else value


def _origin(head: RequestHead, name: bytes, value: bytes) -> None:
    head._origin = True
    head.lines.append(b"Origin: " + value)


def _asks_method(head: RequestHead, name: bytes, value: bytes) -> None:
    head._asks_method = True
    head.lines.append(b"Access-Control-Request-Method: " + value)


_SPECIAL: Final[dict[bytes, Callable[[RequestHead, bytes, bytes], None]]] = {
    b"connection": _connection,
    b"keep-alive": _dropped,
    b"proxy-connection": _dropped,
    b"proxy-authorization": _dropped,
    b"te": _dropped,
    b"http2-settings": _dropped,
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"host": _host,
    b"upgrade": _upgrade,
    b"expect": _expect,
    b"user-agent": _user_agent,
    b"e2b-sandbox-id": _sandbox_id,
    b"e2b-sandbox-port": _sandbox_port,
    b"e2b-traffic-access-token": _traffic_token,
    b"x-forwarded-for": _forwarded,
    b"x-forwarded-proto": _forwarded,
    b"x-forwarded-host": _forwarded,
    b"x-forwarded-prefix": _forwarded,
    b"origin": _origin,
    b"access-control-request-method": _asks_method,
}
