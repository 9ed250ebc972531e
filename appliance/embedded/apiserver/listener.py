"""One loopback port for plain HTTP and TLS: the first byte of a connection decides.

kubectl needs TLS to send its token; what may use plain HTTP (loopback) saves the encryption. Accepted sockets are
peeked at, never read, before the right protocol takes them over. Without a certificate everything is plain HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

log = logging.getLogger(__name__)
HANDSHAKE = 0x16
"""First byte of a TLS client hello."""
FIRST_BYTE_TIMEOUT = 30.0
"""Seconds a client may connect without sending anything."""
BACKLOG = 1024
Factory = Callable[[], asyncio.BaseProtocol]


class Listener:
    """Accepts until closed. ``factory`` makes one HTTP protocol per connection."""

    def __init__(self, host: str, port: int, factory: Factory, tls: ssl.SSLContext | None) -> None:
        self._factory = factory
        self._tls = tls
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._socket.setblocking(False)
        self._greeting: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None

    @property
    def address(self) -> tuple[str, int]:
        """The bound host and port."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begins to accept."""
        self._accepting = asyncio.create_task(self._accept(), name="apiserver-accept")

    async def close(self) -> None:
        """Stops accepting; connections already handed over are not touched."""
        tasks = [*self._greeting, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                log.error("cannot accept a connection: %s", error)
                await asyncio.sleep(0.1)  # out of file descriptors: let some close
                continue
            task = asyncio.create_task(self._greet(connection))
            self._greeting.add(task)
            task.add_done_callback(self._greeting.discard)

    async def _greet(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        handed_over = False
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(FIRST_BYTE_TIMEOUT):
                first = await _peek(connection)
            if first:
                tls = self._tls if first[0] == HANDSHAKE else None
                handed_over = True
                await loop.connect_accepted_socket(self._factory, connection, ssl=tls)
        except (OSError, TimeoutError) as error:
            log.debug("a connection ended before its first request: %s", error)
        finally:
            if not handed_over:
                connection.close()


async def _peek(connection: socket.socket) -> bytes:
    """The first byte, left in the socket; empty when the client closed."""
    loop = asyncio.get_running_loop()
    while True:
        with contextlib.suppress(BlockingIOError):
            return connection.recv(1, socket.MSG_PEEK)
        ready = loop.create_future()
        loop.add_reader(connection, ready.set_result, None)
        try:
            await ready
        finally:
            loop.remove_reader(connection)
