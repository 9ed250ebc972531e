"""A client that leaves after a while and knows exactly what it had been told by then.

An HTTP library that times out cannot say whether an answer already lay in its socket, and with hundreds of time-outs
at once some do. This one shuts its socket down, which the server sees as a close and which refuses what comes later,
and only then takes what had come: an answer is either known or was not given.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any
from urllib.parse import urlsplit

CHUNK = 65536


async def post(url: str, body: dict[str, Any], headers: dict[str, str], patience: float) -> tuple[int, Any] | None:
    """POST JSON and wait at most ``patience`` seconds.

    Returns:
        Status and decoded body; None if nothing was answered before the connection was closed.
    """
    where, payload = urlsplit(url), json.dumps(body).encode()
    fields = headers | {"Host": where.netloc, "Content-Type": "application/json", "Content-Length": str(len(payload))}
    lines = [f"POST {where.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    received = bytearray()
    with socket.socket() as sock:
        sock.setblocking(False)
        await loop.sock_connect(sock, (where.hostname, where.port))
        await loop.sock_sendall(sock, "\r\n".join(lines).encode() + payload)
        leaving = False
        while (answer := _answer(received)) is None and not leaving:
            leaving = not await _readable(sock, end)
            if leaving:
                sock.shutdown(socket.SHUT_RDWR)
            try:
                chunk = sock.recv(CHUNK)
            except BlockingIOError:
                continue
            if not chunk and not leaving:
                raise ConnectionError(f"closed after {bytes(received)!r}")
            received += chunk
        return answer or _answer(received)


async def _readable(sock: socket.socket, end: float) -> bool:
    """Whether there was something to read before the time ``end``. Cancelling a read could lose what it has read."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        async with asyncio.timeout_at(end):
            await ready.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(sock)
    return True


def _answer(received: bytearray) -> tuple[int, Any] | None:
    """The whole answer, if it has come; ours all have a Content-Length."""
    head, found, body = bytes(received).partition(b"\r\n\r\n")
    if not found:
        return None
    lines = head.decode().split("\r\n")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    if len(body) < int(fields["content-length"]):
        return None
    return int(lines[0].split(" ")[1]), json.loads(body)
