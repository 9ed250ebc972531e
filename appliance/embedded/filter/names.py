"""The resolver of sandboxes with domain rules, whatever name server they ask: UDP and TCP.

It answers for admitted names only, with IPv4 addresses that a sandbox may reach and nothing else of what name servers
say, so that little can be carried through it. Names that are not admitted, and types other than addresses, are REFUSED,
which is what the code is for (RFC 1035 §4.1.1: "for policy reasons"). AAAA and HTTPS records of admitted names are
empty: there is no IPv6, and without HTTPS records clients send the server's name in clear, where it can be read.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from typing import cast

from appliance.dns import wire
from appliance.dns.lookup import Lookup, LookupFailed
from appliance.embedded.filter.policies import Policies, reachable

PER_SANDBOX = 64
"""Questions of one sandbox in flight; one more is not answered."""
MAX_RECORDS = 13
"""Addresses in one answer, which so fits in 512 bytes with the longest name."""
STREAMS_PER_SANDBOX = 16
STREAM_TIMEOUT = 15.0
"""Seconds a connection may be silent."""
_EMPTY = (wire.AAAA, wire.HTTPS, wire.SVCB)


class Names:
    """Answers questions of sandboxes."""

    def __init__(self, policies: Policies, lookup: Lookup) -> None:
        self._policies, self._lookup = policies, lookup
        self._asked: Counter[str] = Counter()

    async def answer(self, sandbox: str, packet: bytes) -> bytes | None:
        """The answer; None for what deserves none: an unknown sender, too many questions, no query at all."""
        if not self._policies.known(sandbox) or self._asked[sandbox] >= PER_SANDBOX:
            return None
        try:
            name, kind, end = wire.question(packet)
        except wire.FormatError:
            readable = len(packet) >= wire.HEADER.size and not packet[2] & 0x80
            return wire.reply(packet, 0, wire.FORMERR, []) if readable else None
        if not self._policies.admits(sandbox, name) or kind not in (wire.A, *_EMPTY):
            return wire.reply(packet, end, wire.REFUSED, [])
        if kind != wire.A:
            return wire.reply(packet, end, wire.NOERROR, [])
        self._asked[sandbox] += 1
        try:
            return await self._addresses(packet, end, name)
        finally:
            self._asked[sandbox] -= 1
            if not self._asked[sandbox]:
                del self._asked[sandbox]

    async def _addresses(self, packet: bytes, end: int, name: str) -> bytes:
        try:
            found = await self._lookup.find(name)
        except LookupFailed:
            return wire.reply(packet, end, wire.SERVFAIL, [])
        if not found.exists:
            return wire.reply(packet, end, wire.NXDOMAIN, [])
        records = [wire.address_record(one, found.ttl) for one in reachable(found.addresses)[:MAX_RECORDS]]
        return wire.reply(packet, end, wire.NOERROR, records)


class Datagrams(asyncio.DatagramProtocol):
    """Questions by UDP."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._transport: asyncio.DatagramTransport | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """One question."""
        task = asyncio.create_task(self._answer(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = await self._names.answer(addr[0], data)
        if answer is not None and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)


class Streams:
    """Questions by TCP (RFC 7766)."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._open: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, for ``asyncio.start_server``."""
        sandbox = str(writer.get_extra_info("peername")[0])
        self._open[sandbox] += 1
        try:
            while self._open[sandbox] <= STREAMS_PER_SANDBOX:
                async with asyncio.timeout(STREAM_TIMEOUT):
                    (size,) = struct.unpack("!H", await reader.readexactly(2))
                    answer = await self._names.answer(sandbox, await reader.readexactly(size))
                    if answer is None:
                        return
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        except (TimeoutError, OSError, EOFError):
            pass
        finally:
            self._open[sandbox] -= 1
            if not self._open[sandbox]:
                del self._open[sandbox]
            writer.close()
