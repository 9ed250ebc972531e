"""The name that a connection asks for: SNI of a TLS ClientHello, Host of HTTP/1 requests. No socket is touched.

Both take the client's bytes as they come, cut anywhere, answer the name as soon as it is certain, and raise ``Refused``
for what is no such protocol, names nobody or is ambiguous: two names are worth none. The bytes themselves are passed on
unchanged by the caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

import httptools

MAX_HELLO = 64 * 1024
"""Bytes of a ClientHello, with its record headers."""
MAX_HEAD = 64 * 1024
"""Bytes of request line and headers."""
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0


class Refused(Exception):
    """The connection is not to be carried on; the text says why."""


class Inspector(Protocol):
    """Reads one direction of a connection."""

    def feed(self, data: bytes) -> str | None:
        """The name asked for, lower case, once it is known. Raises ``Refused``."""


class ClientHello:
    """RFC 8446 §4.1.2 and RFC 6066 §3, over as many records as the client likes."""

    def __init__(self) -> None:
        self._records, self._message = bytearray(), bytearray()
        self._name: str | None = None

    def feed(self, data: bytes) -> str | None:
        """See ``Inspector``; after the name is known nothing is looked at any more."""
        if self._name is None:
            self._records += data
            if len(self._records) + len(self._message) > MAX_HELLO:
                raise Refused(f"no complete ClientHello in {MAX_HELLO} bytes")
            while self._unwrap():
                self._name = self._read()
                if self._name is not None:
                    break
        return self._name

    def _unwrap(self) -> bool:
        """Move one complete record's content to the message; what follows the message may be of any type."""
        if not self._records:
            return False
        if self._records[0] != _HANDSHAKE or (len(self._records) > 1 and self._records[1] != 3):
            raise Refused("no TLS")
        size = int.from_bytes(self._records[3:5], "big")
        if len(self._records) < 5 or len(self._records) < 5 + size:
            return False
        if not size:
            raise Refused("an empty record")
        self._message += self._records[5 : 5 + size]
        del self._records[: 5 + size]
        return True

    def _read(self) -> str | None:
        """The name in the message, once that is complete."""
        if len(self._message) < 4:
            return None
        size = int.from_bytes(self._message[1:4], "big")
        if self._message[0] != _CLIENT_HELLO or size > MAX_HELLO:
            raise Refused("no ClientHello")
        return _server_name(bytes(self._message[4 : 4 + size])) if len(self._message) >= 4 + size else None


class _Reader:
    """Length-prefixed fields; ``Refused`` where they lead past the end."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._data):
            raise Refused("a malformed ClientHello")
        self._at += size
        return self._data[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def _server_name(body: bytes) -> str:
    hello = _Reader(body)
    hello.take(2 + 32)  # version, random
    hello.vector(1)  # session
    hello.vector(2)  # cipher suites
    hello.vector(1)  # compression
    names: list[bytes] = []
    extensions = _Reader(hello.vector(2) if hello else b"")
    while extensions:
        kind, content = extensions.number(2), _Reader(extensions.vector(2))
        if kind == _SERVER_NAME:
            entries = _Reader(content.vector(2))
            while entries:
                if entries.number(1) != _HOST_NAME:
                    raise Refused("a server name of unknown type")
                names.append(entries.vector(2))
    if len(names) != 1:
        raise Refused(f"{len(names)} server names in the ClientHello")
    return _ascii(names[0])


class Requests:
    """Every HTTP/1 request of a connection: all must ask for the same name. After an upgrade nothing is looked at.

    An absolute target (``GET http://name/``) counts as much as ``Host`` and must agree with it (RFC 9112 §3.2.2).
    """

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._name: str | None = None
        self._target = b""
        self._hosts: list[bytes] = []
        self._pending = 0
        self._in_head, self._upgraded = True, False
        self._why = ""

    def feed(self, data: bytes) -> str | None:
        """See ``Inspector``."""
        if self._upgraded:
            return self._name
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgraded = True
        except httptools.HttpParserError as error:
            raise Refused(self._why or f"no HTTP/1 request: {error}") from None
        self._pending = self._pending + len(data) if self._in_head else 0
        if self._pending > MAX_HEAD:
            raise Refused(f"no complete request head in {MAX_HEAD} bytes")
        return self._name

    def on_message_begin(self) -> None:
        """Called by the parser, as all that follow."""
        self._target, self._hosts, self._in_head = b"", [], True

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        if name.lower() == b"host":
            self._hosts.append(value)

    def on_headers_complete(self) -> None:
        """The head is known; an exception makes the parser fail, so that nothing after it is taken for good."""
        self._in_head = False
        try:
            name = self._asked()
            if self._name is not None and name != self._name:
                raise Refused(f"a request for {name} on a connection to {self._name}")
        except Refused as refused:
            self._why = str(refused)
            raise
        self._name = name

    def on_message_complete(self) -> None:
        """The next head may begin."""
        self._in_head = True

    def _asked(self) -> str:
        return asked_name(self._parser.get_method(), self._target, self._hosts)


def asked_name(method: bytes, target: bytes, hosts: Sequence[bytes]) -> str:
    """The server that a request with these ``Host`` headers asks for. Raises ``Refused``."""
    if method == b"CONNECT":
        raise Refused("CONNECT")
    if len(hosts) != 1:
        raise Refused(f"{len(hosts)} Host headers")
    name = host_name(_ascii(hosts[0]))
    if not target.startswith(b"/") and target != b"*":
        try:
            named = urlsplit(_ascii(target)).netloc
        except ValueError:
            raise Refused("a malformed target") from None
        if host_name(named.rpartition("@")[2]) != name:
            raise Refused("target and Host name different servers")
    return name


def host_name(text: str) -> str:
    """``Host`` without its port; an IPv6 address keeps its brackets, being no name."""
    return text if text.startswith("[") else text.partition(":")[0].removesuffix(".")


def _ascii(text: bytes) -> str:
    try:
        return text.decode("ascii").strip().lower().removesuffix(".")
    except UnicodeDecodeError:
        raise Refused("a name that is not ASCII") from None
