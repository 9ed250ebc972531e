"""Loopback addresses of the machine that lead into the node's network: ``relay.py PID FILE NAME=HOST:PORT…``.

A socket belongs to the network namespace of the thread that made it, so one thread that has entered the node's makes
the outgoing ones, and another listens outside. Writes the addresses it got as JSON to FILE; runs until killed, or
until the node (PID) is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_CHUNK = 1 << 16


class Inside:
    """Makes sockets in another process's network namespace."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._thread = ThreadPoolExecutor(1, initializer=self._enter)

    def _enter(self) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        namespace = os.open(f"/proc/{self._pid}/ns/net", os.O_RDONLY)
        if libc.setns(namespace, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(namespace)

    async def dial(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection from there. Raises OSError."""
        loop = asyncio.get_running_loop()
        connection = await loop.run_in_executor(self._thread, socket.socket, socket.AF_INET, socket.SOCK_STREAM)
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(connection, (host, port))
            return await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Everything from one side to the other, then the end of file; a reset is passed on as the end."""
    try:
        while chunk := await reader.read(_CHUNK):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()


async def serve(inside: Inside, host: str, port: int) -> str:
    """Listen for one target; returns the address."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await inside.dial(host, port)
        except OSError:
            writer.transport.abort()
            return
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        for one in (writer, far_writer):
            one.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    _servers.append(server)
    name = server.sockets[0].getsockname()
    return f"127.0.0.1:{name[1]}"


_servers: list[asyncio.Server] = []


async def main(pid: int, output: Path, targets: list[str]) -> None:
    """Serve every target until the node is gone."""
    inside = Inside(pid)
    addresses = {}
    for target in targets:
        name, _, address = target.partition("=")
        host, _, port = address.rpartition(":")
        addresses[name] = await serve(inside, host, int(port))
    fresh = output.with_name(output.name + ".new")
    fresh.write_text(json.dumps(addresses))
    fresh.rename(output)
    gone = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    await gone.wait()
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
