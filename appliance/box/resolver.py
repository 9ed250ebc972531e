"""A resolver for one domain: every name in it is the box, everything else is asked of the machine's own resolvers.

``PORT-ID.DOMAIN`` needs wildcard DNS, which ``/etc/hosts`` cannot express. Point ``/etc/resolv.conf`` (of a machine, a
container or a test's mount namespace) at the address this listens on. UDP only, as stub resolvers ask; questions with
anything but exactly one query are refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from appliance.api.address import parse_address
from appliance.dns.lookup import NameServers
from appliance.dns.wire import (
    AAAA,
    ANY,
    FORMERR,
    HEADER,
    NOERROR,
    SERVFAIL,
    A,
    FormatError,
    address_record,
    question,
    reply,
)

logger = logging.getLogger(__name__)

TTL = 60
MAX_PENDING = 256
"""Questions forwarded at once; more answer SERVFAIL."""
FORWARD_TIMEOUT = 3.0


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
            records = [address_record(self._address, TTL)] if kind in (wanted, ANY) else []
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
    upstreams = [one for one in NameServers(Path("/etc/resolv.conf"))() if one != host]
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
