"""Firewall and filter put in force together: order, takeover, and a filter that dies."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from appliance.api.egress import CLOSED, EVERYTHING, OPEN, Egress
from appliance.api.header_rules import Authority, HeaderRules
from appliance.embedded.filter.control import PROTOCOL, Hello, Ports
from appliance.embedded.node import filterclient
from appliance.embedded.node.egress_control import EgressControl
from appliance.embedded.node.filterclient import FilterClient, FilterFailed

A, B = Egress(deny=(EVERYTHING,), domains=("a.io",)), Egress(deny=(EVERYTHING,), domains=("b.io",))
PORTS = Ports(1, 2, 3, 4)


class World:
    """Stands for the firewall and for the client of a filter; ``log`` is what was asked of both, in order."""

    def __init__(self, running: list[str] | None = None) -> None:
        self.log: list[Any] = []
        self.running = running
        self.connected, self.fails = False, False
        self.gone = asyncio.Event()

    def lead(self, ports: Ports) -> None:
        self.log.append("lead")

    def restrict(self, address: str, egress: Egress) -> None:
        self.log.append(("firewall", address, egress))

    async def find(self) -> Hello | None:
        if self.running is None:
            return None
        self.connected = True
        self.gone.clear()
        return Hello(PROTOCOL, "b", 1, PORTS, self.running)

    async def start(self) -> Hello:
        self.log.append("start")
        if self.fails:
            self.fails = False
            raise FilterFailed("not now")
        self.running = []
        found = await self.find()
        assert found is not None
        return found

    async def set(self, address: str, egress: Egress | None, rules: HeaderRules | None = None) -> None:
        self.log.append(("filter", address, egress, *([rules] if rules is not None else [])))

    async def lost(self) -> None:
        await self.gone.wait()

    def forget(self) -> None:
        self.log.append("forget")
        self.gone.clear()

    def die(self) -> None:
        self.running, self.connected = None, False
        self.gone.set()


def controlled(world: World) -> EgressControl:
    """The thing under test."""
    return EgressControl(world, world)  # type: ignore[arg-type]


async def test_a_filter_is_started_for_domains_only_and_told_first() -> None:
    """Plain policies never touch it; with domains it has the policy before the firewall leads anything to it."""
    world = World()
    control = controlled(world)
    await control.apply("10.0.0.1", CLOSED)
    assert world.log == [("firewall", "10.0.0.1", CLOSED)]
    world.log.clear()
    await control.apply("10.0.0.2", A)
    await control.apply("10.0.0.2", OPEN)
    await control.release("10.0.0.2")
    await control.release("10.0.0.1")
    assert world.log == [
        "start",
        "lead",
        ("filter", "10.0.0.2", A),
        ("firewall", "10.0.0.2", A),
        ("filter", "10.0.0.2", OPEN),
        ("firewall", "10.0.0.2", OPEN),
        ("filter", "10.0.0.2", None),
        ("firewall", "10.0.0.2", OPEN),
        ("firewall", "10.0.0.1", OPEN),
    ]


async def test_policies_of_an_earlier_agent_stay_until_their_pods_are_heard_of() -> None:
    """A found filter is told nothing about pods that this agent does not know yet: they must not open in between."""
    world = World(running=["10.0.0.1", "10.0.0.2"])
    control = controlled(world)
    await control.find()
    await control.apply("10.0.0.3", A)
    await control.apply("10.0.0.1", OPEN)
    told = [entry for entry in world.log if entry[0] == "filter"]
    assert told == [("filter", "10.0.0.3", A), ("filter", "10.0.0.1", OPEN)]


async def test_a_filter_that_dies_is_started_again_with_everything() -> None:
    """All policies are told again, also after a start that failed; without domains nobody needs it."""
    world = World()
    control = controlled(world)
    await control.apply("10.0.0.1", A)
    await control.apply("10.0.0.2", B)
    await control.apply("10.0.0.2", CLOSED)
    world.log.clear()
    keeping = asyncio.create_task(control.keep())
    world.fails = True
    world.die()
    async with asyncio.timeout(5):
        while ("filter", "10.0.0.2", CLOSED) not in world.log:
            await asyncio.sleep(0.005)
    assert world.log == ["start", "start", "lead", ("filter", "10.0.0.1", A), ("filter", "10.0.0.2", CLOSED)]
    await control.apply("10.0.0.1", OPEN)
    world.log.clear()
    world.die()
    async with asyncio.timeout(5):
        while world.log != ["forget"]:
            await asyncio.sleep(0.005)
    keeping.cancel()


async def test_a_policy_that_cannot_be_told_is_not_enforced_halfway() -> None:
    """When the filter cannot be started, the firewall is left as it was and the caller hears of it."""
    world = World()
    world.fails = True
    with pytest.raises(FilterFailed):
        await controlled(world).apply("10.0.0.1", A)
    assert world.log == ["start"]


@pytest.fixture
def client(tmp_path: Path) -> FilterClient:
    """A client of a real filter process on loopback."""
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    return FilterClient(tmp_path / "f.sock", "127.0.0.1", tmp_path / "resolv.conf", "build", tmp_path / "log")


async def test_a_real_filter_is_started_found_replaced_and_ended(client: FilterClient, tmp_path: Path) -> None:
    """It outlives its client, tells the next one what it knows, gives way to other code, and leaves no socket."""
    assert await client.find() is None
    first = await client.start()
    assert all(port > 0 for port in (first.ports.tls, first.ports.http, first.ports.dns_udp, first.ports.dns_tcp))
    await client.set("10.0.0.1", A)
    arguments = (tmp_path / "f.sock", "127.0.0.1", tmp_path / "resolv.conf")
    second = FilterClient(*arguments, "build", tmp_path / "log")
    found = await second.find()
    assert found is not None and (found.pid, found.sandboxes) == (first.pid, ["10.0.0.1"])
    third = FilterClient(*arguments, "other", tmp_path / "log")
    assert await third.find() is None
    async with asyncio.timeout(5):
        await client.lost()
        await second.lost()
    with pytest.raises(FilterFailed, match="gone"):
        await client.set("10.0.0.1", B)
    assert (await third.start()).pid != first.pid
    await third.stop()
    assert not third.connected
    assert await third.find() is None
    await client.stop()  # nothing to end any more, but its child to be reaped


async def test_a_filter_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of its log is in the error."""
    monkeypatch.setattr(filterclient, "START_TIMEOUT", 20.0)
    broken = FilterClient(tmp_path / "f.sock", "192.0.2.254", tmp_path / "none", "build", tmp_path / "log")
    with pytest.raises(FilterFailed, match=r"(?is)did not start; end of .*log:.*cannot assign requested address"):
        await broken.start()


async def test_header_rules_need_the_filter_and_are_told_with_the_policy() -> None:
    """Rules that are there start it, and a new one is told them too; while they are missing the rest holds."""
    world, rules = World(), HeaderRules({}, Authority("c", "k"))
    ruled = Egress(rules="r1")
    control = controlled(world)
    await control.apply("10.0.0.2", ruled)
    assert world.log == [("firewall", "10.0.0.2", OPEN)]
    world.log.clear()
    await control.apply("10.0.0.2", ruled, rules)
    filtered = ("filter", "10.0.0.2", ruled, rules)
    assert world.log == ["start", "lead", filtered, ("firewall", "10.0.0.2", ruled)]
    world.log.clear()
    world.die()
    keeping = asyncio.create_task(control.keep())
    while filtered not in world.log:
        await asyncio.sleep(0)
    keeping.cancel()
    assert world.log == ["start", "lead", filtered]
