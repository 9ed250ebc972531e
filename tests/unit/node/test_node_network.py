"""The choice of a bridge, which two nodes on one box never share; the text of egress policies."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from appliance.api import labels
from appliance.api.egress import CLOSED, OPEN, Egress, egress_of, encode, reason
from appliance.embedded.node import egress_rules, network
from appliance.embedded.node.network import PodNetwork, box_lock


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Bridges of a made-up box: name → owner."""
    found: dict[str, str] = {}
    monkeypatch.setattr(network, "_alias", found.get)
    return found


def test_a_bridge_of_a_living_directory_is_left_alone(links: dict[str, str], tmp_path: Path) -> None:
    """The first free number is taken, our own is found again, an orphan's is reused, and each has its own network."""
    mine, other = tmp_path / "mine", tmp_path / "other"
    other.mkdir()
    links["appliance0"] = str(other)
    second = PodNetwork.claim("appliance0", "10.213.0.0/16", mine)
    assert (second.bridge, str(second.cidr), second.number) == ("appliance1", "10.214.0.0/16", 1)
    links["appliance1"] = str(mine)
    assert PodNetwork.claim("appliance0", "10.213.0.0/16", mine).bridge == "appliance1"
    other.rmdir()
    assert PodNetwork.claim("appliance0", "10.213.0.0/16", tmp_path / "third").bridge == "appliance0"


def test_an_unmarked_bridge_is_nobodys_to_take(links: dict[str, str], tmp_path: Path) -> None:
    """A bridge between being made and being marked, or made by a person, is not taken over."""
    links["appliance0"] = ""
    assert PodNetwork.claim("appliance0", "10.213.0.0/16", tmp_path).number == 1


def test_the_choice_is_made_by_one_node_at_a_time() -> None:
    """While one holds the lock of the box another waits; it goes on as soon as the first has let go."""
    entered, order = threading.Event(), []

    def second() -> None:
        entered.set()
        with box_lock():
            order.append("second")

    with box_lock():
        thread = threading.Thread(target=second)
        thread.start()
        assert entered.wait(5)
        thread.join(0.05)
        assert thread.is_alive()
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_a_policy_allows_before_it_denies() -> None:
    """Overlapping networks are merged, since nft refuses them; everything needs no condition; empty lists no rule."""
    text = egress_rules.restrict("br0", "10.213.0.16", Egress(("198.51.100.0/24", "198.51.100.7/32"), ("0.0.0.0/0",)))
    rules = [line for line in text.splitlines() if line.startswith("add rule")]
    prefix = "add rule inet br0 pod_10_213_0_16 "
    assert rules == [f"{prefix}ip daddr {{ 198.51.100.0/24 }} return", f"{prefix}drop"]
    only = egress_rules.restrict("br0", "10.213.0.16", Egress(deny=("203.0.113.5/32",)))
    assert "return" not in only and "ip daddr { 203.0.113.5 } drop" in only.replace("/32", "")


def test_a_policy_that_cannot_be_read_closes() -> None:
    """Nothing opens by a mistake: broken JSON, broken networks, a wrong type."""
    for text in ("{", '{"deny": ["nonsense"]}', '{"allow": 5}', "[]"):
        assert egress_of({}, {labels.EGRESS: text}) == CLOSED
    assert egress_of({}, {}) == OPEN and not OPEN


def test_the_label_closes_what_lists_leave_open() -> None:
    """Label and lists together: allowed networks stay allowed, everything else is denied; each has its own reason."""
    some = Egress(("1.1.1.0/24",), ("2.2.2.0/24",))
    both = egress_of({labels.ALLOW_INTERNET: "false"}, {labels.EGRESS: encode(some)})
    assert both == Egress(("1.1.1.0/24",), ("2.2.2.0/24", "0.0.0.0/0"))
    assert egress_of({labels.ALLOW_INTERNET: "false"}, {}) == CLOSED
    assert len({reason(one) for one in (OPEN, CLOSED, some, both)}) == 4


def test_domains_lead_to_the_filter_what_addresses_do_not_allow() -> None:
    """Allowed addresses go straight, the rest to the filter; without domains an earlier redirect is taken away."""
    both = Egress(("198.51.100.0/24",), ("0.0.0.0/0",), ("a.io",))
    lines = egress_rules.restrict("br0", "10.213.0.16", both).splitlines()
    chain = "br0 names_10_213_0_16"
    assert lines.index(f"add rule inet {chain} ip daddr {{ 198.51.100.0/24 }} return") < lines.index(
        f"add rule inet {chain} goto redirects"
    )
    assert "add element inet br0 names { 10.213.0.16 : jump names_10_213_0_16 }" in lines
    plain = egress_rules.restrict("br0", "10.213.0.16", Egress(deny=("0.0.0.0/0",))).splitlines()
    for text in (plain, egress_rules.release("br0", "10.213.0.16").splitlines()):
        assert "delete element inet br0 names { 10.213.0.16 : jump names_10_213_0_16 }" in text
        assert f"delete chain inet {chain}" in text


def test_names_that_the_box_does_not_answer_are_left_to_the_address_rules() -> None:
    """With name servers of its own a pod's DNS is led nowhere: the filtering chain allows those alone."""
    policy = Egress(("198.51.100.53/32",), ("0.0.0.0/0",), ("a.io",), dns=False)
    lines = egress_rules.restrict("br0", "10.213.0.16", policy).splitlines()
    rules = [line.partition("names_10_213_0_16 ")[2] for line in lines if line.startswith("add rule inet br0 names")]
    assert rules == [
        "ip daddr { 198.51.100.53/32 } return",
        "meta l4proto { tcp, udp } th dport 53 return",
        "goto redirects",
    ]
    assert egress_of({}, {labels.EGRESS: encode(policy)}) == policy


def test_domains_without_everything_denied_close() -> None:
    """An annotation that names domains but leaves the rest open, or holds what is no domain, was not written by us."""
    for text in ('{"domains": ["a.io"]}', '{"deny": ["0.0.0.0/0"], "domains": ["A.io"]}', '{"domains": ["1.1.1.1"]}'):
        assert egress_of({}, {labels.EGRESS: text}) == CLOSED
    good = Egress(deny=("0.0.0.0/0",), domains=("a.io", "*.b.io", "*"))
    assert egress_of({}, {labels.EGRESS: encode(good)}) == good
    assert egress_of({labels.ALLOW_INTERNET: "false"}, {labels.EGRESS: '{"domains": ["a.io"]}'}).domains == ("a.io",)


def test_header_rules_lead_the_web_to_the_filter_wherever_it_goes() -> None:
    """Also to allowed addresses, and without DNS unless there are domains; a revision that is no name closes."""
    chain = "add rule inet br0 names_10_213_0_16"
    only = egress_rules.restrict("br0", "10.213.0.16", Egress(("198.51.100.0/24",), rules="r1")).splitlines()
    assert [line for line in only if line.startswith(chain)] == [f"{chain} jump web"]
    all_of_it = Egress(("198.51.100.0/24",), ("0.0.0.0/0",), ("a.io",), rules="r1")
    both = egress_rules.restrict("br0", "10.213.0.16", all_of_it).splitlines()
    assert [line for line in both if line.startswith(chain)] == [
        f"{chain} jump web", f"{chain} ip daddr {{ 198.51.100.0/24 }} return", f"{chain} goto redirects",
    ]  # fmt: skip
    assert egress_of({}, {labels.EGRESS: encode(all_of_it)}) == all_of_it
    assert egress_of({}, {labels.EGRESS: '{"rules": "../x"}'}) == CLOSED
    assert len({reason(one) for one in (OPEN, CLOSED, Egress(rules="r1"), Egress(rules="r2"), all_of_it)}) == 5
