"""``python -m appliance.embedded.filter.main SOCKET ADDRESS RESOLV_CONF BUILD``: runs until SIGTERM.

Started by the node agent as root, in a session of its own; it outlives the agent, as sandboxes do. Once its sockets are
open it is nobody.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import msgspec

from appliance.dns.lookup import Lookup, NameServers
from appliance.embedded.filter.carrying import MAX_CONNECTIONS, Carrier, Carriers
from appliance.embedded.filter.control import MAX_LINE, PROTOCOL, Done, Hello, Ports, Set
from appliance.embedded.filter.heads import ClientHello, Requests
from appliance.embedded.filter.names import Datagrams, Names, Streams
from appliance.embedded.filter.policies import Policies
from appliance.embedded.filter.proxying import Proxies

log = logging.getLogger(__name__)
BACKLOG = 1024
HTTPS, HTTP = 443, 80
RESERVED_DESCRIPTORS = 1024
NOBODY = 65534
"""User and group it becomes once everything is open: it reads what untrusted programs send."""


class Filter:
    """Listeners, policies, and the agent's line to them."""

    def __init__(self, build: str, lookup: Lookup, trust: ssl.SSLContext | None = None) -> None:
        """``trust``: for servers of hosts with header rules; None: the box's trust store."""
        self._build, self._lookup = build, lookup
        self._policies = Policies()
        # Four sockets a connection, and room for the listeners, questions to name servers and the agent.
        room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS) // 4
        limit = max(1, min(MAX_CONNECTIONS, room))
        self.carriers = Carriers(self._policies, self._find, Proxies(trust).start, limit=limit)
        self._names = Names(self._policies, lookup)
        self._ports = Ports(0, 0, 0, 0)
        self._servers: list[asyncio.Server] = []
        self._datagrams: asyncio.DatagramTransport | None = None

    async def _find(self, name: str) -> tuple[IPv4Address, ...]:
        return (await self._lookup.find(name)).addresses

    async def start(self, address: str, upstream: tuple[int, int] = (HTTPS, HTTP)) -> None:
        """Listen on free ports of ``address``. ``upstream``: ports that are dialled. Raises ``OSError``."""
        loop = asyncio.get_running_loop()
        tls = await loop.create_server(
            lambda: Carrier(self.carriers, ClientHello(), upstream[0]), address, 0, backlog=BACKLOG
        )
        http = await loop.create_server(
            lambda: Carrier(self.carriers, Requests(), upstream[1]), address, 0, backlog=BACKLOG
        )
        streams = await asyncio.start_server(Streams(self._names).serve, address, 0, limit=65535 + 2)
        self._datagrams, _ = await loop.create_datagram_endpoint(
            lambda: Datagrams(self._names), local_addr=(address, 0)
        )
        self._servers = [tls, http, streams]
        bound = [server.sockets[0].getsockname()[1] for server in self._servers]
        self._ports = Ports(bound[0], bound[1], self._datagrams.get_extra_info("sockname")[1], bound[2])

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One agent, until it hangs up; a line that cannot be read ends it."""
        hello = Hello(PROTOCOL, self._build, os.getpid(), self._ports, self._policies.addresses)
        try:
            writer.write(msgspec.json.encode(hello) + b"\n")
            while line := await reader.readline():
                wish = msgspec.json.decode(line, type=Set)
                self._policies.set(wish.sandbox, wish.egress, wish.rules)
                self.carriers.enforce(wish.sandbox)
                writer.write(msgspec.json.encode(Done(len(self.carriers))) + b"\n")
                await writer.drain()
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            log.warning("an agent's connection ended: %s", error)
        finally:
            writer.close()

    async def stop(self) -> None:
        """Reset every connection and stop listening."""
        for server in self._servers:
            server.close()
        self.carriers.close()
        if self._datagrams is not None:
            self._datagrams.close()
        await self._lookup.close()


async def run(path: Path, address: str, resolv_conf: Path, build: str) -> None:
    """Serve until SIGTERM; the socket appears when everything listens."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    servers = NameServers(resolv_conf)
    servers()
    own = Filter(build, Lookup(servers))
    await own.start(address)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    control = socket.socket(socket.AF_UNIX)
    control.bind(str(fresh))
    fresh.chmod(0o600)
    server = await asyncio.start_unix_server(own.control, sock=control, limit=MAX_LINE)
    fresh.rename(path)
    _become_nobody()
    log.info("filtering for sandboxes with rules about names on %s", address)
    await stop.wait()
    with suppress(OSError):
        path.unlink()
    server.close()
    await own.stop()


def _become_nobody() -> None:
    """Give up root, for good; started as somebody else, there is nothing to give up."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def main(arguments: list[str]) -> None:
    """The command line above."""
    path, address, resolv_conf, build = arguments
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )  # fmt: skip
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(run(Path(path), address, Path(resolv_conf), build))


if __name__ == "__main__":
    main(sys.argv[1:])
