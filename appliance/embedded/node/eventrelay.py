"""From 192.0.2.1, where programs of a sandbox look for the events service, to the runtime of that same sandbox.

The firewall leads a pod's connections to port 80 of that address to the relay, which knows the pod by its address and
carries bytes to and from the events service on the pod's own port ``EVENTS_PORT``. So port 80 inside stays the
user's, no policy closes the way, and nothing is set up per pod. Packets cannot be led straight back to the pod: a
bridge port sends nothing back where it came from. While the agent is being replaced connections are refused.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from ipaddress import IPv4Address

from appliance.embedded.node.network import EVENTS_PORT, PodNetwork

log = logging.getLogger(__name__)
MAX_CONNECTIONS = 512
"""At once, of all pods; one more is closed."""
PER_POD = 32
TIMEOUT = 30.0
"""Seconds of one connection; its requests take milliseconds."""
DIAL_TIMEOUT = 3.0
PIECE = 16 * 1024


class EventRelay:
    """The listener on the bridge's address."""

    def __init__(self, network: PodNetwork, port: int = EVENTS_PORT) -> None:
        """``port``: of the events service in every pod."""
        self._network, self._port = network, port
        self._open: dict[str, int] = {}
        self._carrying: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, then tell the firewall where. Raises ``OSError``."""
        self._server = await asyncio.start_server(self._accept, str(self._network.gateway), 0, limit=PIECE)
        port = self._server.sockets[0].getsockname()[1]
        await asyncio.to_thread(self._network.lead_events, port)

    async def stop(self) -> None:
        """Take no more connections and end those that are open."""
        if self._server is not None:
            self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pod = str(writer.get_extra_info("peername")[0])
        mine = self._open.get(pod, 0)
        if IPv4Address(pod) not in self._network.cidr or mine >= PER_POD or sum(self._open.values()) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open[pod] = mine + 1
        carrying = asyncio.create_task(self._carry(pod, reader, writer))
        self._carrying.add(carrying)
        try:
            async with asyncio.timeout(TIMEOUT):
                await carrying
        except (OSError, TimeoutError) as error:
            log.info("events service of %s: %s", pod, str(error) or "too slow")
            writer.transport.abort()
        except asyncio.CancelledError:  # ``stop``
            writer.transport.abort()
        finally:
            writer.close()
            self._carrying.discard(carrying)
            self._open[pod] -= 1
            if not self._open[pod]:
                del self._open[pod]

    async def _carry(self, pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(DIAL_TIMEOUT):
            answers, requests = await asyncio.open_connection(pod, self._port, limit=PIECE)
        try:
            up = asyncio.create_task(_copy(reader, requests))
            try:
                await _copy(answers, writer)
            finally:
                up.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await up
        finally:
            requests.transport.abort()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Until the source ends, then end the sink."""
    while data := await source.read(PIECE):
        sink.write(data)
        await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()
