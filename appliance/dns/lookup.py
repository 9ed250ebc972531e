"""Addresses of names, asked of the machine's own name servers, with a bounded cache.

Written instead of ``getaddrinfo`` because that one blocks a thread for as long as a name server is silent: a sandbox
that asks for dead names must not delay another. Every wait has a deadline, questions in flight and entries kept are
bounded, and the same question is asked once however many wait for it.
"""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from appliance.dns import wire

PORT = 53
ATTEMPT_TIMEOUT = 2.0
"""Seconds one name server gets for one answer."""
ROUNDS = 2
"""How often each name server is asked."""
MAX_SERVERS = 3
"""Name servers asked, as in resolv.conf(5)."""
MAX_IN_FLIGHT = 512
"""Questions at once; one more fails at once."""
MAX_CACHED = 4096
TTL_MIN, TTL_MAX, TTL_NEGATIVE = 5, 300, 5
"""Seconds an answer is kept: its own, within these bounds; one without addresses."""


class LookupFailed(Exception):
    """No name server answered, or none could."""


@dataclass(frozen=True)
class Found:
    """Addresses of a name."""

    addresses: tuple[IPv4Address, ...]
    ttl: int
    """Seconds for which they hold."""
    exists: bool = True
    """False: there is no such name (NXDOMAIN)."""


class NameServers:
    """The name servers of a resolv.conf, read again when the file has changed; those of before when it has gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: tuple[int, int] | None = None
        self._found: tuple[str, ...] = ()

    def __call__(self) -> Sequence[str]:
        """Their addresses, at most ``MAX_SERVERS``; none while the file could never be read."""
        with suppress(OSError):
            status = self._path.stat()
            if self._read != (status.st_mtime_ns, status.st_ino):
                words = [line.split() for line in self._path.read_text(errors="replace").splitlines()]
                self._found = tuple(word[1] for word in words if len(word) > 1 and word[0] == "nameserver")
                self._read = status.st_mtime_ns, status.st_ino
        return self._found[:MAX_SERVERS]


class Lookup:
    """Asks ``servers()`` and remembers. To be used in one loop."""

    def __init__(self, servers: Callable[[], Sequence[str]], *, port: int = PORT, timeout: float = ATTEMPT_TIMEOUT):
        self._servers, self._port, self._timeout = servers, port, timeout
        self._cache: OrderedDict[str, tuple[float, Found]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[Found]] = {}

    async def find(self, name: str) -> Found:
        """IPv4 addresses of ``name`` (lower case, no final dot), possibly none.

        Raises:
            LookupFailed: no usable answer in time, or too many questions at once.
        """
        loop = asyncio.get_running_loop()
        kept = self._cache.get(name)
        if kept is not None and kept[0] > loop.time():
            self._cache.move_to_end(name)
            return Found(kept[1].addresses, max(1, int(kept[0] - loop.time())), kept[1].exists)
        task = self._asking.get(name)
        if task is None:
            if len(self._asking) >= MAX_IN_FLIGHT:
                raise LookupFailed("too many questions at once")
            task = self._asking[name] = asyncio.create_task(self._ask(name))
            task.add_done_callback(lambda done: self._answered(name, done))
        return await asyncio.shield(task)

    def _answered(self, name: str, task: asyncio.Task[Found]) -> None:
        self._asking.pop(name, None)
        if task.cancelled() or task.exception() is not None:
            return
        found = task.result()
        self._cache[name] = (task.get_loop().time() + found.ttl, found)
        self._cache.move_to_end(name)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)

    async def _ask(self, name: str) -> Found:
        servers = list(self._servers())
        for server in servers * ROUNDS:
            with suppress(TimeoutError, OSError, EOFError, wire.FormatError):
                async with asyncio.timeout(self._timeout):
                    answer = await self._exchange(server, name)
                if answer.code == wire.NXDOMAIN:
                    return Found((), TTL_NEGATIVE, exists=False)
                if answer.code == wire.NOERROR:
                    ttl = max(TTL_MIN, min(TTL_MAX, answer.ttl)) if answer.addresses else TTL_NEGATIVE
                    return Found(answer.addresses, ttl)
        raise LookupFailed(f"{name}: no answer from {', '.join(servers) or 'any name server: none is configured'}")

    async def _exchange(self, server: str, name: str) -> wire.Answer:
        identity = secrets.randbelow(0x10000)
        query = wire.query(identity, name)
        answer = await self._by_datagram(server, query, identity, name)
        return await self._by_stream(server, query, identity, name) if answer.truncated else answer

    async def _by_datagram(self, server: str, query: bytes, identity: int, name: str) -> wire.Answer:
        """A socket, and so a source port, per question: an answer that was not asked for finds nobody."""
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(
            lambda: _Answers(identity, name), remote_addr=(server, self._port)
        )
        try:
            transport.sendto(query)
            return await protocol.answer
        finally:
            transport.close()

    async def _by_stream(self, server: str, query: bytes, identity: int, name: str) -> wire.Answer:
        reader, writer = await asyncio.open_connection(server, self._port)
        try:
            writer.write(struct.pack("!H", len(query)) + query)
            (size,) = struct.unpack("!H", await reader.readexactly(2))
            return wire.answer(await reader.readexactly(size), identity, name)
        finally:
            writer.close()

    async def close(self) -> None:
        """Drop the questions in flight."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Answers(asyncio.DatagramProtocol):
    """The first datagram that answers the question; others are not looked at twice."""

    def __init__(self, identity: int, name: str) -> None:
        self._identity, self._name = identity, name
        self.answer: asyncio.Future[wire.Answer] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        with suppress(wire.FormatError):
            found = wire.answer(data, self._identity, self._name)
            if not self.answer.done():
                self.answer.set_result(found)

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)
