"""Queries and answers of RFC 1035, read and written without a socket."""

from __future__ import annotations

import contextlib
import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dns import wire
from appliance.dns.wire import Answer, FormatError


def record(owner: bytes, kind: int, data: bytes, ttl: int = 60) -> bytes:
    """A resource record."""
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(data)) + data


def labels(name: str) -> bytes:
    """A name without compression."""
    return b"".join(bytes([len(one)]) + one.encode() for one in name.split(".")) + b"\0"


def answering(name: str, *records: bytes, flags: int = 0x8180, identity: int = 7) -> bytes:
    """A name server's answer to ``query(7, name)``."""
    asked = wire.query(identity, name)
    head = wire.HEADER.pack(identity, flags, 1, len(records), 0, 0)
    return head + asked[wire.HEADER.size :] + b"".join(records)


HERE = b"\xc0\x0c"
ONE = IPv4Address("198.51.100.1")


def test_a_query_is_read_as_it_was_written() -> None:
    """Name, type and end of the question."""
    packet = wire.query(9, "a.b.test")
    assert wire.question(packet) == ("a.b.test", wire.A, len(packet))


def test_addresses_are_found_behind_aliases() -> None:
    """CNAMEs are followed, compressed or not; the time to live is the shortest; duplicates count once."""
    packet = answering(
        "a.test",
        record(HERE, wire.CNAME, labels("b.test"), 30),
        record(labels("b.test"), wire.CNAME, b"\x01c" + b"\xc0\x0e", 20),  # c.test, by a pointer into the question
        record(labels("c.test"), wire.A, ONE.packed, 90),
        record(labels("C.test"), wire.A, ONE.packed, 25),
        record(labels("other.test"), wire.A, b"\x01\x02\x03\x04"),
    )
    assert wire.answer(packet, 7, "a.test") == Answer(0, (ONE,), 20)


def test_what_is_no_address_of_the_name_is_ignored() -> None:
    """Records of other names, types and sizes give no address; the code is told; a loop of aliases ends."""
    assert wire.answer(answering("a.test", record(labels("b.test"), wire.A, ONE.packed)), 7, "a.test") == Answer(0)
    assert wire.answer(answering("a.test", record(HERE, wire.AAAA, b"\0" * 16)), 7, "a.test") == Answer(0)
    assert wire.answer(answering("a.test", record(HERE, wire.CNAME, labels("a.test"))), 7, "a.test") == Answer(0)
    assert wire.answer(answering("a.test", flags=0x8183), 7, "a.test").code == wire.NXDOMAIN
    assert wire.answer(answering("a.test", flags=0x8380), 7, "a.test").truncated


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        wire.query(7, "a.test"),
        answering("b.test"),
        answering("a.test", identity=8),
        answering("a.test", record(HERE, wire.A, ONE.packed))[:-1],
        answering("a.test", record(HERE, wire.A, ONE.packed))[:-10],
        answering("a.test", record(b"\xc0\xff", wire.A, ONE.packed)),
        answering("a.test", record(HERE, wire.CNAME, b"\x3fshort")),
    ],
)
def test_answers_to_something_else_are_refused(packet: bytes) -> None:
    """Another question, another identity, a cut packet, a pointer forwards: an error, never an address."""
    with pytest.raises(FormatError):
        wire.answer(packet, 7, "a.test")


@given(st.binary(max_size=80))
def test_no_bytes_break_the_parsers(noise: bytes) -> None:
    """Whatever follows a head that fits, the result is an answer or FormatError."""
    for packet in (noise, answering("a.test") + noise, wire.HEADER.pack(7, 0x8180, 1, 3, 0, 0) + noise):
        for read in (wire.question, lambda data: wire.answer(data, 7, "a.test")):
            with contextlib.suppress(FormatError):
                read(packet)
