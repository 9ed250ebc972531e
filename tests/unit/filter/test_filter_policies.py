"""Which names and addresses a policy admits, and what happens to connections when it changes."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from appliance.api.egress import CLOSED, EVERYTHING, OPEN, Egress, admits, domain
from appliance.embedded.filter.policies import Policies, reachable

POD, ADDRESS = "10.213.0.16", IPv4Address("198.51.100.1")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("*", "*"),
        ("_x.a-b.io", "_x.a-b.io"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("1.2.3.4", None),
        ("300.1.1.1", None),
        ("*.", None),
        ("a.*.b", None),
        ("**.a", None),
        ("-a.b", None),
        ("a..b", None),
        ("bücher.example", None),
        ("a" * 64 + ".b", None),
        (".".join(["a" * 60] * 5), None),
        ("", None),
        ("a b", None),
        ("https://a.b", None),
    ],
)
def test_what_a_domain_is(text: str, found: str | None) -> None:
    """A name, a name below which everything is meant, or everything; no address, no pattern of another kind."""
    assert domain(text) == found


@pytest.mark.parametrize(
    ("domains", "name", "admitted"),
    [
        (("a.io",), "A.IO.", True),
        (("a.io",), "www.a.io", False),
        (("a.io",), "eviLa.io", False),
        (("a.io",), "a.io.evil.net", False),
        (("*.a.io",), "www.a.io", True),
        (("*.a.io",), "x.y.a.io", True),
        (("*.a.io",), "a.io", False),
        (("*.a.io",), "evila.io", False),
        (("*.a.io",), ".a.io", False),
        (("*",), "anything.net", True),
        (("*",), "198.51.100.1", False),
        (("*",), "[::1]", False),
        (("*",), "", False),
        ((), "a.io", False),
    ],
)
def test_which_names_a_domain_covers(domains: tuple[str, ...], name: str, admitted: bool) -> None:
    """An exact name only itself, a wildcard only what is below, everything all names and no address."""
    assert admits(domains, name) is admitted


def test_private_and_special_addresses_are_never_reached() -> None:
    """Whatever a name resolves to: private, loopback, this host, multicast and reserved addresses are left out."""
    closed = ["10.1.2.3", "172.31.0.1", "192.168.0.1", "169.254.169.254", "127.0.0.1", "0.0.0.0", "224.0.0.1"]
    closed += ["255.255.255.255", "240.0.0.1"]
    assert reachable([*map(IPv4Address, closed), ADDRESS]) == (ADDRESS,)


@pytest.mark.parametrize(
    ("now", "kept"),
    [
        (Egress(deny=(EVERYTHING,), domains=("a.io",)), True),
        (Egress(deny=(EVERYTHING,), domains=("b.io",)), False),
        (Egress(("198.51.100.0/24",), (EVERYTHING,), ("b.io",)), True),
        (Egress(("198.51.100.0/24",), (EVERYTHING,)), True),
        (Egress(deny=("198.51.100.0/24",)), False),
        (Egress(deny=("203.0.113.0/24",)), True),
        (OPEN, True),
        (CLOSED, False),
        (None, False),
    ],
)
def test_an_existing_connection_goes_on_only_where_the_new_policy_allows_it(now: Egress | None, kept: bool) -> None:
    """By its name, or, once there are no domain rules or an allowed address, by where it leads."""
    policies = Policies()
    policies.set(POD, Egress(deny=(EVERYTHING,), domains=("a.io",)))
    assert policies.keeps(POD, "a.io", ADDRESS) and not policies.admits(POD, "b.io")
    policies.set(POD, now)
    assert policies.keeps(POD, "a.io", ADDRESS) is kept
    assert policies.known(POD) is (now is not None)
