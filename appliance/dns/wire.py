"""Messages with one question (RFC 1035 §4): read a query, write an answer, write a query, read its answer. Pure."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

A, CNAME, AAAA, OPT, SVCB, HTTPS, ANY = 1, 5, 28, 41, 64, 65, 255
INTERNET = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5
HEADER = struct.Struct("!HHHHHH")
MAX_POINTERS = 32
"""Compression pointers followed in one name."""
MAX_CHAIN = 12
"""CNAME records followed from the name that was asked for."""
TRUNCATED = 0x0200
_RECORD = struct.Struct("!HHIH")


class FormatError(ValueError):
    """Bytes that are not the message that was expected."""


def question(packet: bytes) -> tuple[str, int, int]:
    """The lower-cased name, the type and the end offset of a query's only question.

    Raises:
        FormatError: not a query, not exactly one question, or a malformed name.
    """
    if len(packet) < HEADER.size:
        raise FormatError("shorter than a header")
    _, flags, questions, *_ = HEADER.unpack_from(packet)
    if flags & 0x8000 or questions != 1:
        raise FormatError("not a query with one question")
    return _question(packet)


def _question(packet: bytes) -> tuple[str, int, int]:
    name, at = _name(packet, HEADER.size, pointers=0)
    if at + 4 > len(packet):
        raise FormatError("no type and class")
    return name, struct.unpack_from("!H", packet, at)[0], at + 4


def _name(packet: bytes, at: int, *, pointers: int = MAX_POINTERS) -> tuple[str, int]:
    """The name that starts at ``at`` and where it ends there; every pointer leads backwards. Raises FormatError."""
    labels: list[str] = []
    end = length = 0
    while True:
        size = packet[at] if at < len(packet) else 0x40
        if size >= 0xC0 and pointers and at + 2 <= len(packet):
            end, target = end or at + 2, struct.unpack_from("!H", packet, at)[0] & 0x3FFF
            if target >= at:
                raise FormatError("a pointer forwards")
            at, pointers = target, pointers - 1
            continue
        length += 1 + size
        if size > 63 or at + 1 + size > len(packet) or length > 255:
            raise FormatError("malformed name")
        at += 1 + size
        if not size:
            return ".".join(labels), end or at
        label = packet[at - size : at].decode("latin-1").lower()
        if "." in label:
            raise FormatError("a dot inside a label")
        labels.append(label)


def reply(packet: bytes, end: int, code: int, records: list[bytes]) -> bytes:
    """An authoritative answer to ``packet`` whose question ends at ``end`` (0: it could not be read)."""
    (identity, flags) = struct.unpack_from("!HH", packet)
    head = HEADER.pack(identity, 0x8480 | (flags & 0x0100) | code, 1 if end else 0, len(records), 0, 0)
    return head + packet[HEADER.size : end] + b"".join(records)


def address_record(address: IPv4Address | IPv6Address, ttl: int) -> bytes:
    """A resource record for the name of the question (a pointer to offset 12)."""
    kind = A if address.version == 4 else AAAA
    return struct.pack("!HHHIH", 0xC00C, kind, INTERNET, ttl, len(address.packed)) + address.packed


def query(identity: int, name: str) -> bytes:
    """A recursive query for the IPv4 addresses of ``name`` (ASCII labels of at most 63 characters)."""
    labels = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split("."))
    return HEADER.pack(identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", A, INTERNET)


@dataclass(frozen=True)
class Answer:
    """What a name server said about a name."""

    code: int
    addresses: tuple[IPv4Address, ...] = ()
    ttl: int = 0
    """Seconds; the smallest of the records that lead to the addresses."""
    truncated: bool = False


def answer(packet: bytes, identity: int, name: str) -> Answer:
    """The answer to ``query(identity, name)``, its CNAME records followed.

    Raises:
        FormatError: it answers something else, or cannot be read.
    """
    if len(packet) < HEADER.size:
        raise FormatError("shorter than a header")
    found, flags, questions, count, *_ = HEADER.unpack_from(packet)
    if found != identity or not flags & 0x8000 or questions != 1:
        raise FormatError("not the answer to this query")
    asked, kind, at = _question(packet)
    if asked != name or kind != A:
        raise FormatError("the answer to another question")
    if flags & TRUNCATED:
        return Answer(flags & 0x0F, truncated=True)
    addresses, aliases = _records(packet, at, count)
    ttls: list[int] = []
    for _ in range(MAX_CHAIN):
        if name in addresses:
            own = addresses[name]
            ttls += [ttl for _, ttl in own]
            return Answer(flags & 0x0F, tuple(dict.fromkeys(one for one, _ in own)), min(ttls))
        if name not in aliases:
            break
        name, ttl = aliases[name]
        ttls.append(ttl)
    return Answer(flags & 0x0F)


def _records(
    packet: bytes, at: int, count: int
) -> tuple[dict[str, list[tuple[IPv4Address, int]]], dict[str, tuple[str, int]]]:
    """Owner → (address, seconds) and owner → (target, seconds) of the answer section."""
    addresses: dict[str, list[tuple[IPv4Address, int]]] = {}
    aliases: dict[str, tuple[str, int]] = {}
    for _ in range(count):
        owner, at = _name(packet, at)
        if at + _RECORD.size > len(packet):
            raise FormatError("a record without its head")
        kind, family, ttl, size = _RECORD.unpack_from(packet, at)
        at += _RECORD.size
        if at + size > len(packet):
            raise FormatError("a record without its data")
        if (kind, family, size) == (A, INTERNET, 4):
            addresses.setdefault(owner, []).append((IPv4Address(packet[at : at + 4]), ttl))
        elif (kind, family) == (CNAME, INTERNET):
            aliases[owner] = (_name(packet, at)[0], ttl)
        at += size
    return addresses, aliases
