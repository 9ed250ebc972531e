"""The name a connection asks for, read from its first bytes, cut anywhere."""

from __future__ import annotations

import contextlib
import ssl
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.embedded.filter.heads import MAX_HEAD, MAX_HELLO, ClientHello, Refused, Requests


def hello(name: str | None) -> bytes:
    """What OpenSSL sends first when it asks for ``name``."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tunnel = context.wrap_bio(into, out, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        tunnel.do_handshake()
    return out.read()


def in_pieces(reader: ClientHello | Requests, data: bytes, size: int) -> str | None:
    """Feed ``size`` bytes at a time; the name, once it is known."""
    for at in range(0, len(data), size):
        name = reader.feed(data[at : at + size])
        if name is not None:
            return name
    return None


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_the_server_name_of_a_real_hello(size: int) -> None:
    """In any pieces, lower-cased; nothing is known before the last byte of the message."""
    data = hello("WWW.Example.com")
    assert in_pieces(ClientHello(), data, size) == "www.example.com"
    assert in_pieces(ClientHello(), data[:-1], size) is None


def test_a_hello_over_many_records() -> None:
    """A client may cut its hello into records of any size: that hides nothing."""
    message = hello("a.test")[5:]
    pieces = [message[at : at + 9] for at in range(0, len(message), 9)]
    data = b"".join(b"\x16\x03\x01" + struct.pack("!H", len(one)) + one for one in pieces)
    assert in_pieces(ClientHello(), data, 100) == "a.test"


@pytest.mark.parametrize("size", [1, 5000])
def test_early_data_behind_the_hello_does_not_matter(size: int) -> None:
    """TLS 1.3 clients may send other records in the same packet: the name is known by then."""
    assert in_pieces(ClientHello(), hello("a.test") + b"\x14\x03\x03\0\1\1\x17\x03\x03\0\5early", size) == "a.test"


def crafted(*entries: tuple[int, bytes], extensions: int = 1) -> bytes:
    """A minimal hello with these server names, the extension repeated."""
    names = b"".join(struct.pack("!BH", kind, len(name)) + name for kind, name in entries)
    content = struct.pack("!H", len(names)) + names
    extension = struct.pack("!HH", 0, len(content)) + content
    listed = extension * extensions
    body = b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + struct.pack("!H", len(listed)) + listed
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack("!H", len(message)) + message


def test_the_crafted_hello_is_a_good_one() -> None:
    """With one name it passes, so that the refusals below are about what they change."""
    assert ClientHello().feed(crafted((0, b"a.test."))) == "a.test"


@pytest.mark.parametrize(
    "data",
    [
        hello(None),
        crafted((0, b"a.test"), (0, b"b.test")),
        crafted((0, b"a.test"), extensions=2),
        crafted((1, b"a.test")),
        crafted((0, "é.test".encode())),
        crafted((0, b"a.test")).replace(b"\0\x06a.test", b"\0\xffa.test"),
        b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
        b"\x16\x02",
        b"\x16\x03\x01\xff\xff" + bytes(MAX_HELLO),
    ],
)
def test_a_hello_that_names_nobody_or_two_is_refused(data: bytes) -> None:
    """No name, two, an unknown kind, lengths past the end, another protocol: refused, not guessed."""
    with pytest.raises(Refused):
        ClientHello().feed(data)


@pytest.mark.parametrize("size", [1, 13, 5000])
def test_the_host_of_requests(size: int) -> None:
    """Port, case and final dot do not count; bodies are passed over; an absolute target must agree."""
    data = b"POST /x HTTP/1.1\r\nhOST: A.test.:80\r\nContent-Length: 5\r\n\r\nhello"
    data += b"GET http://a.TEST/y HTTP/1.1\r\nHost: a.test\r\n\r\n"
    reader = Requests()
    assert [in_pieces(reader, data, size), reader.feed(b"")] == ["a.test", "a.test"]
    assert in_pieces(Requests(), data[:20], size) is None


@pytest.mark.parametrize(
    "head",
    [
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET http://a.test@b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "CONNECT a.test:80 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n",
        "\x16\x03\x01",
        "GET /" + "x" * MAX_HEAD,
    ],
)
def test_requests_that_name_nobody_or_two_are_refused(head: str) -> None:
    """No Host, two, one that differs from the target or from the first request's, another protocol, no end."""
    with pytest.raises(Refused):
        Requests().feed(head.encode())


def test_after_an_upgrade_bytes_are_the_servers_business() -> None:
    """A WebSocket's frames are no requests."""
    reader = Requests()
    upgrade = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert reader.feed(upgrade) == reader.feed(b"\x81\x05hello") == "a.test"


@given(st.binary(max_size=200), st.sampled_from([ClientHello, Requests]))
def test_no_bytes_break_the_readers(noise: bytes, kind: type[ClientHello] | type[Requests]) -> None:
    """Noise, alone or behind a good beginning, is a name or a refusal, never another error."""
    good = crafted((0, b"a.test"))[:-20] if kind is ClientHello else b"GET / HTTP/1.1\r\nHost: a.test\r\n"
    for data in (noise, good + noise):
        with contextlib.suppress(Refused):
            kind().feed(data)
