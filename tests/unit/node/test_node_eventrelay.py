"""The relay from the address of the events service to the pod that asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from appliance.embedded.node import eventrelay
from appliance.embedded.node.eventrelay import EventRelay

LOOPBACK = IPv4Network("127.0.0.0/8")


@dataclass
class Network:
    """Pods on loopback, without a firewall."""

    cidr: IPv4Network = LOOPBACK
    gateway: IPv4Address = LOOPBACK[1]
    ports: list[int] = field(default_factory=list)

    def lead_events(self, port: int) -> None:
        """Remember."""
        self.ports.append(port)


async def _name_the_pod(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A pod's service: answers one line with its own address, whole and with the asker's end still open."""
    line = await reader.readline()
    writer.write(line + str(writer.get_extra_info("sockname")[0]).encode())
    writer.close()


@pytest.fixture
async def services() -> AsyncIterator[int]:
    """The same port on every loopback address; returns it."""
    server = await asyncio.start_server(_name_the_pod, "0.0.0.0", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def ask(port: int, pod: str) -> bytes:
    """Connect as that pod."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(pod, 0))
    try:
        writer.write(b"me\n")
        return await reader.read()
    finally:
        writer.close()


async def unanswered(port: int, pod: str) -> bool:
    """Whether the connection ends without a byte."""
    try:
        return not await ask(port, pod)
    except ConnectionError:
        return True


async def test_each_pod_reaches_its_own_service(services: int) -> None:
    """Who asks decides where it leads; the firewall is told the port once it listens; half a close carries on."""
    network: Any = Network()
    relay = EventRelay(network, services)
    await relay.start()
    try:
        (port,) = network.ports
        assert await ask(port, "127.0.0.7") == b"me\n127.0.0.7"
        assert await ask(port, "127.0.0.9") == b"me\n127.0.0.9"
    finally:
        await relay.stop()


async def test_strangers_and_a_pods_surplus_are_closed(services: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address outside the pods' network, and one connection too many, get no answer; others are served on."""
    monkeypatch.setattr(eventrelay, "PER_POD", 1)
    network: Any = Network(cidr=IPv4Network("127.0.1.0/24"))
    relay = EventRelay(network, services)
    await relay.start()
    (port,) = network.ports
    try:
        assert await unanswered(port, "127.0.0.7")
        _, first = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.1.1", 0))
        assert await unanswered(port, "127.0.1.1")
        assert await ask(port, "127.0.1.2") == b"me\n127.0.1.2"
        first.close()
    finally:
        await relay.stop()


async def test_a_pod_without_the_service_is_closed() -> None:
    """Nothing listens in the pod: the connection ends, and its place is free again."""
    server = await asyncio.start_server(_name_the_pod, "127.0.0.1", 0)
    closed = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    network: Any = Network()
    relay = EventRelay(network, closed)
    await relay.start()
    try:
        for _ in range(eventrelay.PER_POD + 1):
            assert await unanswered(network.ports[0], "127.0.0.7")
    finally:
        await relay.stop()
