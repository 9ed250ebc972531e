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

REMEMBERED: Final = 1024
"""Different blocks of fields kept by a RequestReader."""
REMEMBERED_SIZE: Final = 4096
"""Bytes of the largest head whose fields are kept."""

_LINE = re.compile(rb"([A-Z]+) (/[!\"$-~]*) HTTP/1\.([01])\r\n")
_METHODS = IDEMPOTENT | {b"POST", b"PATCH"}
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")


class BadRequest(Exception):
    """A head that cannot be served. ``status`` is the answer's; the connection is closed after it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Fields:
    """The header fields of a request, without its first line. Class attributes are the values of absent fields.

    Never changed once read, because later requests with the same bytes share it: clients repeat their fields.
    """

    host: bytes | None = None
    length: int | None = None
    chunked = False
    upgrade: bytes | None = None
    """Protocols offered, when the connection may be switched."""
    user_agent = b""
    sandbox_id: bytes | None = None
    sandbox_port: bytes | None = None
    traffic_token: bytes | None = None
    access_token: bytes | None = None
    preflight = False
    """Has what makes an OPTIONS request a CORS preflight: browsers cannot attach a token to it."""
    fault: tuple[int, str] | None = None
    complete = False
    address: tuple[str, int] | bool | None = False
    """Sandbox and port that these fields name, None if none; False until ``target.py`` has looked."""
    _origin = False
    _asks_method = False

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        """``Name: value`` of every field that goes on as it came."""
        self.block = b""
        """The same and the framing, joined, ready to be sent on."""
        self.connection: list[bytes] = []
        """Tokens of ``Connection``, lower case."""
        self.forwarded: dict[bytes, bytes] = {}
        """``X-Forwarded-*`` as received, by lower-case name."""

    def on_header(self, name: bytes, value: bytes) -> None:
        special = _SPECIAL.get(name.lower())
        if special is None:
            self.lines.append(b"%b: %b" % (name, value))
        else:
            special(self, name, value.strip(b" \t"))

    def on_headers_complete(self) -> None:
        self.complete = True

    def refuse(self, status: int, message: str) -> None:
        """Remember the first fault; raising inside a parser callback would lose it."""
        if self.fault is None:
            self.fault = (status, message)

    def finish(self) -> None:
        """Settle what depends on several fields."""
        tokens = self.connection
        if b"upgrade" not in tokens:
            self.upgrade = None
        nominated = frozenset(tokens) - _OPTIONS
        if nominated:  # Connection may name further fields of this hop only (RFC 9110 §7.6.1)
            self.lines = [line for line in self.lines if line.partition(b":")[0].lower() not in nominated]
        self.preflight = self._origin and self._asks_method
        if self.chunked:
            self.lines.append(b"Transfer-Encoding: chunked")
        elif self.length is not None:
            self.lines.append(b"Content-Length: %d" % self.length)
        self.block = b"".join([b"\r\n" + line for line in self.lines])


class RequestHead:
    """One request head."""

    __slots__ = ("fields", "has_body", "host", "http10", "keep_alive", "method", "upgrade", "url")

    def __init__(self, method: bytes, url: bytes, fields: Fields, *, http10: bool) -> None:
        """Raises BadRequest for what only the whole head can tell."""
        self.method = method
        self.url = url
        """The request target in origin form."""
        self.fields = fields
        self.host = fields.host
        self.http10 = http10
        self.has_body = fields.chunked or bool(fields.length)
        if http10:
            self.keep_alive = b"keep-alive" in fields.connection and b"close" not in fields.connection
            self.upgrade = None
            if fields.chunked:
                raise BadRequest(400, "Transfer-Encoding needs HTTP/1.1")
        else:
            self.keep_alive = not fields.connection or b"close" not in fields.connection
            self.upgrade = fields.upgrade
        if url[:1] != b"/":
            self._settle_target()
        if self.host is None and not http10:
            raise BadRequest(400, "Invalid host")

    @property
    def idempotent(self) -> bool:
        return self.method in IDEMPOTENT

    @property
    def preflight(self) -> bool:
        return self.fields.preflight and self.method == b"OPTIONS"

    def _settle_target(self) -> None:
        if self.url == b"*" and self.method == b"OPTIONS":
            return
        if self.method == b"CONNECT":
            raise BadRequest(405, "CONNECT is not served here")
        match = _ABSOLUTE.fullmatch(self.url)
        if match is None:
            raise BadRequest(400, "The request target must be a path or an absolute http URL")
        self.host = match[1]  # RFC 9112 §3.2.2: the target's authority wins over Host
        self.url = match[2] if match[2][:1] == b"/" else b"/" + match[2]


_OPTIONS = frozenset({b"close", b"keep-alive", b"upgrade", b"te", b"content-length", b"host", b"http2-settings", b""})
"""Connection options that need no removal; nominating Content-Length or Host must not take our framing away."""


class RequestReader:
    """Reads heads; remembers the fields it has read, by their bytes, so that repeated ones cost a dictionary look-up.

    A head is taken apart at its first line. Only a first line of the plainest form may use remembered fields;
    everything else goes through llhttp as a whole.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Fields] = {}

    def read(self, head: bytes) -> RequestHead:
        """Read one complete head, ``head`` ending with its empty line.

        Raises:
            BadRequest: 400 malformed, 405 CONNECT, 417 unknown expectation, 501 unknown coding, 505 unknown version.
        """
        line = _LINE.match(head)
        if line is not None:
            method, url, minor = line.groups()
            fields = self._known.get(head[line.end() :])
            if fields is not None and method in _METHODS:
                return RequestHead(method, url, fields, http10=minor == b"0")
        request = _parse(head)
        if line is not None and len(head) <= REMEMBERED_SIZE:
            if len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[head[line.end() :]] = request.fields
        return request


class _Receiver(Fields):
    """Fields with the first line's callback: what httptools talks to."""

    url = b""

    def on_url(self, url: bytes) -> None:
        self.url = url


def _parse(head: bytes) -> RequestHead:
    if head.startswith(b"PRI * HTTP/2"):  # h2c with prior knowledge
        raise BadRequest(505, "HTTP/2 in clear is not served here, use HTTP/1.1")
    fields = _Receiver()
    parser = httptools.HttpRequestParser(fields)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # we decide on upgrades by the answer, not by the request
    except httptools.HttpParserError as error:
        raise BadRequest(*(fields.fault or (400, f"The request head is malformed: {error}"))) from None
    if not fields.complete:
        raise BadRequest(400, "The request head is malformed")
    version = parser.get_http_version()
    if version not in ("1.1", "1.0"):
        raise BadRequest(505, f"HTTP/{version} is not served here, use HTTP/1.1")
    fields.finish()
    if fields.fault is not None:
        raise BadRequest(*fields.fault)
    return RequestHead(parser.get_method(), fields.url, fields, http10=version == "1.0")


# One function per field that is not simply copied ---------------------------------------------------------------


def _dropped(head: Fields, name: bytes, value: bytes) -> None:
    """A field of one hop."""


def _connection(head: Fields, name: bytes, value: bytes) -> None:
    head.connection += [token.strip(b" \t").lower() for token in value.split(b",")]


def _content_length(head: Fields, name: bytes, value: bytes) -> None:
    head.length = int(value)  # llhttp has seen digits only, and one field only


def _transfer_encoding(head: Fields, name: bytes, value: bytes) -> None:
    if head.chunked:
        head.refuse(400, "Transfer-Encoding is given twice")
    elif value.lower() != b"chunked":
        head.refuse(501, "The only Transfer-Encoding served here is chunked")
    head.chunked = True


def _host(head: Fields, name: bytes, value: bytes) -> None:
    if head.host is not None:
        head.refuse(400, "Invalid host")
    head.host = value


def _upgrade(head: Fields, name: bytes, value: bytes) -> None:
    # An h2c upgrade would take the connection out of our sight request by request: answered as plain HTTP/1.1.
    if value.lower() not in (b"h2c", b"h2"):
        head.upgrade = value


def _expect(head: Fields, name: bytes, value: bytes) -> None:
    if value.lower() != b"100-continue":
        head.refuse(417, "The only expectation served here is 100-continue")
    head.lines.append(b"Expect: 100-continue")


def _user_agent(head: Fields, name: bytes, value: bytes) -> None:
    head.user_agent = value
    head.lines.append(b"User-Agent: " + value)


def _sandbox_id(head: Fields, name: bytes, value: bytes) -> None:
    if head.sandbox_id is not None:
        head.refuse(400, "Invalid sandbox ID")
    head.sandbox_id = value
    head.lines.append(b"E2b-Sandbox-Id: " + value)


def _sandbox_port(head: Fields, name: bytes, value: bytes) -> None:
    if head.sandbox_port is not None:
        head.refuse(400, "Invalid sandbox port")
    head.sandbox_port = value
    head.lines.append(b"E2b-Sandbox-Port: " + value)


def _access_token(head: Fields, name: bytes, value: bytes) -> None:
    head.access_token = value  # the runtime checks it; we look only before waking
    head.lines.append(b"%b: %b" % (name, value))


def _traffic_token(head: Fields, name: bytes, value: bytes) -> None:
    head.traffic_token = value  # for us, not for the program in the sandbox


def _forwarded(head: Fields, name: bytes, value: bytes) -> None:
    key = name.lower()
    head.forwarded[key] = head.forwarded[key] + b", " + value if key in head.forwarded else value


def _origin(head: Fields, name: bytes, value: bytes) -> None:
    head._origin = True
    head.lines.append(b"Origin: " + value)


def _asks_method(head: Fields, name: bytes, value: bytes) -> None:
    head._asks_method = True
    head.lines.append(b"Access-Control-Request-Method: " + value)


_SPECIAL: Final[dict[bytes, Callable[[Fields, bytes, bytes], None]]] = {
    b"connection": _connection,
    b"keep-alive": _dropped,
    b"proxy-connection": _dropped,
    b"proxy-authorization": _dropped,
    b"te": _dropped,
    b"http2-settings": _dropped,
    b"x-appliance-receipt": _dropped,  # ours; a client's own must not pass for it
    b"content-length": _content_length,
    b"transfer-encoding": _transfer_encoding,
    b"host": _host,
    b"upgrade": _upgrade,
    b"expect": _expect,
    b"user-agent": _user_agent,
    b"e2b-sandbox-id": _sandbox_id,
    b"e2b-sandbox-port": _sandbox_port,
    b"e2b-traffic-access-token": _traffic_token,
    b"x-access-token": _access_token,
    b"x-forwarded-for": _forwarded,
    b"x-forwarded-proto": _forwarded,
    b"x-forwarded-host": _forwarded,
    b"x-forwarded-prefix": _forwarded,
    b"origin": _origin,
    b"access-control-request-method": _asks_method,
}
