"""A resolver for one domain: every name in it is the box, everything else is asked of the machine's own resolvers.

``PORT-ID.DOMAIN`` needs wildcard DNS, which ``/etc/hosts`` cannot express. Point ``/etc/resolv.conf`` (of a machine, a
container or a test's mount namespace) at the address this listens on. UDP only, as stub resolvers ask; questions with
anything but exactly one query are refused. Wire format: RFC 1035 §4.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from appliance.api.address import parse_address

logger = logging.getLogger(__name__)

A, AAAA, ANY = 1, 28, 255
NOERROR, FORMERR, SERVFAIL = 0, 1, 2
TTL = 60
MAX_PENDING = 256
"""Questions forwarded at once; more answer SERVFAIL."""
FORWARD_TIMEOUT = 3.0
HEADER = struct.Struct("!HHHHHH")


class FormatError(ValueError):
    """A datagram that is not one question."""


def question(packet: bytes) -> tuple[str, int, int]:
    """The lower-cased name, the type and the end offset of a packet's only question.

    Raises:
        FormatError: not a query, not exactly one question, or a malformed name.
    """
    if len(packet) < HEADER.size:
        raise FormatError("shorter than a header")
    _, flags, questions, *_ = HEADER.unpack_from(packet)
    if flags & 0x8000 or questions != 1:
        raise FormatError("not a query with one question")
    labels, at = [], HEADER.size
    while True:
        size = packet[at] if at < len(packet) else 64
        if size > 63 or at + 1 + size > len(packet):
            raise FormatError("malformed name")
        at += 1 + size
        if not size:
            break
        labels.append(packet[at - size : at].decode("latin-1").lower())
    if at + 4 > len(packet):
        raise FormatError("no type and class")
    return ".".join(labels), struct.unpack_from("!H", packet, at)[0], at + 4


def reply(packet: bytes, end: int, code: int, records: list[bytes]) -> bytes:
    """An authoritative answer to ``packet`` whose question ends at ``end``."""
    (identity, flags) = struct.unpack_from("!HH", packet)
    head = HEADER.pack(identity, 0x8480 | (flags & 0x0100) | code, 1 if end else 0, len(records), 0, 0)
    return head + packet[HEADER.size : end] + b"".join(records)


def address_record(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bytes:
    """A resource record for the name of the question (a pointer to offset 12)."""
    kind = A if address.version == 4 else AAAA
    return struct.pack("!HHHIH", 0xC00C, kind, 1, TTL, len(address.packed)) + address.packed


def system_resolvers(path: Path = Path("/etc/resolv.conf")) -> list[str]:
    """The machine's own nameserver addresses."""
    try:
        words = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return []
    return [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]


class Resolver(asyncio.DatagramProtocol):
    """Answers for ``domain`` with ``address``; forwards the rest to the first of ``upstreams``."""

    def __init__(self, domain: str, address: str, upstreams: list[str]) -> None:
        self._domain = domain.lower().rstrip(".")
        self._address = ipaddress.ip_address(address)
        self._upstreams = upstreams
        self._pending: set[asyncio.Task[None]] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer one question, or start to forward it."""
        try:
            name, kind, end = question(data)
        except FormatError:
            if len(data) >= HEADER.size and not data[2] & 0x80:
                self._send(reply(data, 0, FORMERR, []), addr)
            return
        if name == self._domain or name.endswith(f".{self._domain}"):
            wanted = A if self._address.version == 4 else AAAA
            records = [address_record(self._address)] if kind in (wanted, ANY) else []
            self._send(reply(data, end, NOERROR, records), addr)
        elif self._upstreams and len(self._pending) < MAX_PENDING:
            task = asyncio.create_task(self._forward(data, end, addr))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        else:
            self._send(reply(data, end, SERVFAIL, []), addr)

    async def _forward(self, packet: bytes, end: int, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        try:
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Once(answer), remote_addr=(self._upstreams[0], 53)
            )
        except OSError:
            self._send(reply(packet, end, SERVFAIL, []), addr)
            return
        try:
            transport.sendto(packet)
            self._send(await asyncio.wait_for(answer, FORWARD_TIMEOUT), addr)
        except (TimeoutError, OSError):
            self._send(reply(packet, end, SERVFAIL, []), addr)
        finally:
            transport.close()

    def _send(self, packet: bytes, addr: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(packet, addr)

    async def close(self) -> None:
        """Stop answering; questions being forwarded are dropped."""
        if self._transport is not None:
            self._transport.close()
        for task in list(self._pending):
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)


class _Once(asyncio.DatagramProtocol):
    """Hands the first datagram to a future."""

    def __init__(self, answer: asyncio.Future[bytes]) -> None:
        self._answer = answer

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc)


@asynccontextmanager
async def serving(listen: str, domain: str, address: str) -> AsyncIterator[None]:
    """A resolver on ``listen`` (HOST:PORT) for the duration of the block.

    Raises:
        RuntimeError: the address cannot be bound; the message names the flag.
    """
    at = parse_address(listen, "--dns-listen")
    host = at.host or "0.0.0.0"  # what was asked for
    upstreams = [one for one in system_resolvers() if one != host]
    resolver = Resolver(domain, address, upstreams)
    loop = asyncio.get_running_loop()
    try:
        await loop.create_datagram_endpoint(lambda: resolver, local_addr=(host, at.port))
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise RuntimeError(f"--dns-listen {listen} cannot be used: {why}") from None
    logger.info("resolving %s and everything below it to %s on %s", domain, address, listen)
    try:
        yield
    finally:
        await resolver.close()
