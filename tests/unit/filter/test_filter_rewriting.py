"""Requests that get headers by a rule: what is replaced, what is passed on, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.embedded.filter.heads import Refused
from appliance.embedded.filter.rewriting import Chunks, Outgoing, Switch, rewrite

RULE = {"X-Key": "secret", "Accept": "b"}


def request(*lines: str, line: str = "GET /a?b HTTP/1.1", host: str = "Host: a.test") -> bytes:
    """A head, with ``Host`` unless it is empty."""
    return "\r\n".join([line, *([host] if host else []), *lines, "", ""]).encode("latin-1")


def sent(head: bytes) -> list[str]:
    """The lines of the head that is sent on for a.test."""
    return rewrite(head, "a.test", RULE).head.decode("latin-1").split("\r\n")


def test_headers_of_the_rule_replace_the_clients() -> None:
    """In any case and however often the client sent them; the others keep their place and spelling."""
    head = request("x-KEY: mine", "User-Agent: u", "ACCEPT: a", "Accept: c", "X-key:", "X-Key-2: stays")
    assert sent(head) == [
        "GET /a?b HTTP/1.1", "Host: a.test", "User-Agent: u", "X-Key-2: stays", "X-Key: secret", "Accept: b", "", "",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [
        request(),
        request(host="host: A.test.:443"),
        request(line="GET http://a.test/x HTTP/1.1"),
        request(line="OPTIONS * HTTP/1.1"),
        request(line="GET / HTTP/1.0"),
        request("X: \t a b\t", "Y:\xff"),
    ],
)
def test_requests_for_the_server_pass(head: bytes) -> None:
    """Whatever way they name it."""
    assert rewrite(head, "a.test", RULE) == Outgoing(rewrite(head, "a.test", RULE).head, 0, False)
    assert "X-Key: secret" in sent(head)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (request(host="Host: b.test"), "a request for b.test on a connection to a.test"),
        (request(host=""), "0 Host headers"),
        (request("Host: a.test"), "2 Host headers"),
        (request("host: b.test"), "2 Host headers"),
        (request(line="GET http://b.test/ HTTP/1.1"), "target and Host name different servers"),
        (request(line="CONNECT a.test:443 HTTP/1.1"), "CONNECT"),
        (request(line="GET / HTTP/2.0"), "no HTTP/1 request"),
        (request(line="PRI * HTTP/2.0", host=""), "no HTTP/1 request"),
        (request(line="GET /"), "no HTTP/1 request"),
        (request(line="GET  / HTTP/1.1"), "no HTTP/1 request"),
        (request(line="GET / HTTP/1.1\nX: y"), "no HTTP/1 request"),
        (request("X : y"), "a malformed header"),
        (request(" folded"), "a malformed header"),
        (request("X: y\nHost: b.test"), "a malformed header"),
        (request("X: y\rz"), "a malformed header"),
        (request("X: \x00"), "a malformed header"),
        (request("no colon"), "a malformed header"),
        (request(": no name"), "a malformed header"),
        (request("Content-Length: 1", "Content-Length: 1"), "an ambiguous length"),
        (request("Content-Length: +1"), "an ambiguous length"),
        (request("Content-Length: 1, 1"), "an ambiguous length"),
        (request("Content-Length: 1", "Transfer-Encoding: chunked"), "an ambiguous length"),
        (request("Transfer-Encoding: gzip, chunked"), "an ambiguous length"),
        (request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "an ambiguous length"),
        (request("Transfer-Encoding: chunked", line="POST / HTTP/1.0"), "an ambiguous length"),
        (request("Upgrade: websocket", "Content-Length: 1"), "a request for WebSocket with a body"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(head: bytes, why: str) -> None:
    """Another server's name, two names, two lengths, or no clean HTTP/1: no header is set in such a request."""
    with pytest.raises(Refused, match=why):
        rewrite(head, "a.test", RULE)


def test_lengths_and_upgrades() -> None:
    """The body's length is known; only WebSocket may be upgraded to, other offers are taken out."""
    assert rewrite(request("Content-Length: 17"), "a.test", {}).length == 17
    assert rewrite(request("transfer-encoding: Chunked"), "a.test", {}).length is None
    assert rewrite(request("Connection: Upgrade", "Upgrade: WebSocket"), "a.test", {}).upgrade
    other = rewrite(request("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x"), "a.test", {})
    assert not other.upgrade and b"h2c" not in other.head and b"\r\nHTTP2-Settings" not in other.head


BODY = b"5;a=b\r\nhello\r\n1a \r\n" + b"\r\n" * 13 + b"\r\n0\r\nX-Sum: 1\r\n\r\n"


@given(st.lists(st.integers(min_value=1, max_value=9)))
def test_a_chunked_body_ends_where_it_ends(cuts: list[int]) -> None:
    """However it is cut, exactly its own bytes are taken, and the next request's stay."""
    chunks, rest, taken = Chunks(), BODY + b"GET / HTTP/1.1\r\n", 0
    for size in [*cuts, len(rest)]:
        piece, rest = rest[:size], rest[size:]
        used = chunks.feed(piece)
        taken += used
        if used < len(piece):
            break
    assert chunks.done and taken == len(BODY)


@pytest.mark.parametrize(
    "body",
    [b"x\r\n", b"5\nhello", b"-1\r\n", b"2\r\nabc\r\n", b"2\r\nab\n", b"2\r\nab\rc", b"0\r\n bad\r\n", b"0\r\n\n",
     b"f" * 16 + b"\r\n", b"1;" + b"x" * 9000, b"0\r\n" + b"X: " + b"y" * 9000],
)  # fmt: skip
def test_malformed_chunks_are_refused(body: bytes) -> None:
    """Sizes that are none, ends that are elsewhere, bare line feeds, lines without end."""
    with pytest.raises(Refused):
        Chunks().feed(body)
    with pytest.raises(Refused):
        chunks = Chunks()
        for one in body:
            chunks.feed(bytes([one]))


@pytest.mark.parametrize(
    ("answer", "switched"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x00", True),
        (b"HTTP/1.1 101\r\n\r\n", True),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 101 OK\r\n\r\n", True),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 101 ", False),
        (b"some body's end", False),
    ],
)
def test_only_the_answer_101_switches(answer: bytes, switched: bool) -> None:
    """Interim answers before it are skipped; the decision is the same however the bytes are cut."""
    assert Switch().feed(answer) is switched
    slow = Switch()
    decisions = [slow.feed(bytes([one])) for one in answer]
    assert next(one for one in decisions if one is not None) is switched
    assert Switch().feed(answer[:9]) is None
