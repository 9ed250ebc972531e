"""The multipart parser: what it yields does not depend on how the bytes arrive."""

from __future__ import annotations

import random

import pytest

from appliance.runtime.files.multipart import MultipartParser, PartEnd, PartStart
from appliance.runtime.http import HttpError

BOUNDARY = b"aXa"
FILES = [
    b"",
    b"\r\n",
    b"\r\n--aX",
    b"\r\n--aY\r\n--aXb\r",
    b"--aXa",
    b"\r" * 40,
    bytes(range(256)) * 5,
    b"\r\n--\r\n--aX\r\n-",
]


def _body(files: list[bytes]) -> bytes:
    parts = (
        b'--aXa\r\nContent-Disposition: form-data; name="file"; filename="%d"\r\n\r\n%s\r\n' % (number, content)
        for number, content in enumerate(files)
    )
    return b"".join(parts) + b"--aXa--\r\nepilogue"


def _parse(body: bytes, cuts: list[int]) -> list[bytes]:
    parser = MultipartParser(BOUNDARY)
    found: list[bytes] = []
    ends = 0
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        for event in parser.feed(body[start:end]):
            if isinstance(event, PartStart):
                assert event.filename == str(len(found))
                found.append(b"")
            elif isinstance(event, PartEnd):
                ends += 1
            else:
                found[-1] += event
    parser.close()
    assert ends == len(found)
    return found


@pytest.mark.parametrize("content", FILES)
def test_every_pair_of_cuts_gives_the_same_files(content: bytes) -> None:
    """A file full of half boundaries survives whatever two places the network cuts the body at."""
    files = [content[:60], b"second"]
    body = _body(files)
    for first in range(len(body) + 1):
        for second in range(first, min(first + 12, len(body)) + 1):
            assert _parse(body, [first, second]) == files


def test_random_cuts_give_the_same_files() -> None:
    """Many files at once, cut at random places: the same content comes out. The seed is fixed."""
    chance = random.Random(1)
    body = _body(FILES)
    for _ in range(300):
        cuts = sorted(chance.sample(range(len(body)), chance.randint(1, 60)))
        assert _parse(body, cuts) == FILES


def test_the_middle_of_a_file_is_not_copied() -> None:
    """A chunk without a boundary is handed on as the very same object."""
    parser = MultipartParser(BOUNDARY)
    list(parser.feed(b'--aXa\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'))
    chunk = bytes(100_000)
    assert [event is chunk for event in parser.feed(chunk)] == [True]


def test_a_cut_off_body_is_refused() -> None:
    """A body that ends before its last boundary is an error, not a short file."""
    parser = MultipartParser(BOUNDARY)
    list(parser.feed(_body([b"x"])[:-20]))
    with pytest.raises(HttpError, match="ends before its last boundary"):
        parser.close()
