"""The framings alone: the same end wherever the bytes are cut, and nothing ambiguous passes."""

from __future__ import annotations

import pytest

from appliance.gateway.bodies import BodyError, ChunkedBody, LengthBody, UntilClose

WHOLE = b"3\r\nabc\r\nA ;ext=1\r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize("size", range(1, len(WHOLE) + 1))
def test_chunks_may_be_cut_into_pieces_of_any_size(size):
    """Payload and end are found in the same place; what follows is left alone."""
    body, taken, payload = ChunkedBody(decode=True), 0, b""
    stream = WHOLE + b"GET /"
    while not body.done:
        piece = stream[taken : taken + size]
        taken += body.feed(piece)
        assert body.payload is not None
        payload += b"".join(body.payload)
        body.payload.clear()
    assert taken == len(WHOLE)
    assert payload == b"abc0123456789"
    assert body.size == 13


@pytest.mark.parametrize(
    "stream",
    [
        b"\r\n", b" 3\r\nabc\r\n", b"-1\r\n", b"0x1\r\na\r\n", b"1_0\r\n", b"3\nabc", b"3\r\nabcd\r\n", b"3\r\nabc\n\n",
        b"3;a\x00b\r\nabc\r\n", b"1;" + b"x" * 2000, b"0\r\nBad Trailer: x\r\n\r\n", b"0\r\n folded\r\n\r\n",
        b"0\r\n" + b"T: x\r\n" * 5000, b"1" * 16 + b"\r\n",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_doubtful_chunks_are_refused_however_they_are_cut(stream, size):
    """Signs, blanks, bare line feeds, control characters, endless lines and malformed trailers."""
    body = ChunkedBody()
    with pytest.raises(BodyError):
        for start in range(0, len(stream), size):
            body.feed(stream[start : start + size])


def test_a_length_ends_exactly():
    """What follows the last byte is not taken."""
    body = LengthBody(5)
    assert (body.feed(b"abc"), body.done) == (3, False)
    assert (body.feed(b"defgh"), body.done) == (2, True)
    assert LengthBody(0).done


def test_a_body_until_close_takes_everything():
    """Only the end of the connection ends it."""
    body = UntilClose()
    assert (body.feed(b"abc"), body.done) == (3, False)
