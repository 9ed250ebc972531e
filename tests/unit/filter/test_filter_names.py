"""The resolver that sandboxes with domain rules get."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

import pytest

from appliance.api.egress import EVERYTHING, OPEN, Egress
from appliance.dns import wire
from appliance.dns.lookup import Found, LookupFailed
from appliance.embedded.filter.names import MAX_RECORDS, Names
from appliance.embedded.filter.policies import Policies

SANDBOX = "10.213.0.16"


class Known:
    """Stands for ``Lookup``."""

    def __init__(self, found: dict[str, Found]) -> None:
        self.found, self.asked = found, []

    async def find(self, name: str) -> Found:
        self.asked.append(name)
        if name not in self.found:
            raise LookupFailed(name)
        return self.found[name]


def names(**found: Found) -> tuple[Names, Known, Policies]:
    """A resolver for names of ``.test`` of which ``a.test``, ``*.b.test`` and whatever is found are allowed."""
    policies = Policies()
    policies.set(SANDBOX, Egress(deny=(EVERYTHING,), domains=("a.test", "*.b.test")))
    known = Known({f"{name}.test": one for name, one in found.items()})
    return Names(policies, known), known, policies  # type: ignore[arg-type]


def typed(name: str, kind: int) -> bytes:
    """A query for another type."""
    return wire.query(7, name)[:-4] + struct.pack("!HH", kind, 1)


def told(answer: bytes | None) -> tuple[int, int]:
    """Code and number of records."""
    assert answer is not None
    return answer[3] & 0x0F, struct.unpack_from("!H", answer, 6)[0]


async def test_only_addresses_of_admitted_names_are_told() -> None:
    """An answer is written anew, from what was found, without private addresses; nothing else is even asked for."""
    public, private = IPv4Address("198.51.100.1"), IPv4Address("10.0.0.1")
    resolver, known, _ = names(a=Found((private, public), 30))
    answer = await resolver.answer(SANDBOX, wire.query(7, "A.test"))
    assert told(answer) == (wire.NOERROR, 1)
    assert answer is not None and answer.endswith(wire.address_record(public, 30))
    for name in ("c.test", "x.a.test", "b.test", "data.exfiltrated.example"):
        assert told(await resolver.answer(SANDBOX, wire.query(7, name))) == (wire.REFUSED, 0)
    assert known.asked == ["a.test"]


async def test_other_types_carry_nothing() -> None:
    """AAAA, HTTPS and SVCB are empty, so that clients go on; TXT, MX, ANY are refused; none is passed on."""
    resolver, known, _ = names()
    for kind in (wire.AAAA, wire.HTTPS, wire.SVCB):
        assert told(await resolver.answer(SANDBOX, typed("a.test", kind))) == (wire.NOERROR, 0)
    for kind in (16, 15, 33, wire.ANY, wire.CNAME):
        assert told(await resolver.answer(SANDBOX, typed("a.test", kind))) == (wire.REFUSED, 0)
    assert known.asked == []


async def test_failures_are_told_as_what_they_are() -> None:
    """A name that does not exist, one without addresses, and no answer from any name server."""
    resolver, _, _ = names(a=Found((), 5, exists=False))
    assert told(await resolver.answer(SANDBOX, wire.query(7, "a.test"))) == (wire.NXDOMAIN, 0)
    assert told(await resolver.answer(SANDBOX, wire.query(7, "x.b.test"))) == (wire.SERVFAIL, 0)


async def test_an_answer_always_fits_a_datagram() -> None:
    """However many addresses a name has: 512 bytes with the longest name."""
    many = tuple(IPv4Address(f"198.51.100.{n}") for n in range(200))
    name = ".".join(["x" * 61] * 3 + ["x" * 57, "b.test"])
    resolver, known, _ = names()
    known.found[name] = Found(many, 30)
    answer = await resolver.answer(SANDBOX, wire.query(7, name))
    assert told(answer) == (wire.NOERROR, MAX_RECORDS)
    assert answer is not None and len(answer) <= 512


@pytest.mark.parametrize("packet", [b"", b"\0" * 11, wire.reply(wire.query(7, "a.test"), 0, 0, [])])
async def test_what_is_no_query_gets_no_answer(packet: bytes) -> None:
    """So that no two resolvers can be set to answer each other."""
    resolver, _, _ = names()
    assert await resolver.answer(SANDBOX, packet) is None


async def test_strangers_get_no_answer_and_opened_sandboxes_any() -> None:
    """Only known sandboxes are answered; one whose rules were lifted may still be led here for a moment."""
    resolver, _, policies = names(z=Found((IPv4Address("198.51.100.9"),), 5))
    assert await resolver.answer("10.213.0.99", wire.query(7, "a.test")) is None
    assert told(await resolver.answer(SANDBOX, b"\0" * 12)) == (wire.FORMERR, 0)
    policies.set(SANDBOX, OPEN)
    assert told(await resolver.answer(SANDBOX, wire.query(7, "z.test"))) == (wire.NOERROR, 1)
