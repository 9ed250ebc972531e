"""A client that leaves after a while and knows exactly what it had been told by then.

An HTTP library that times out cannot say whether an answer already lay in its socket, and with hundreds of time-outs
at once some do. This one takes what is there before it closes, so an answer is either known or was not given.
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
    received = bytearray()
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(patience):
                await loop.sock_connect(sock, (where.hostname, where.port))
                await loop.sock_sendall(sock, "\r\n".join(lines).encode() + payload)
                while (answer := _answer(received)) is None:
                    if not (chunk := await loop.sock_recv(sock, CHUNK)):
                        raise ConnectionError(f"closed after {bytes(received)!r}")
                    received += chunk
                return answer
        except TimeoutError:
            try:
                received += sock.recv(CHUNK)
            except BlockingIOError:
                return None
            return _answer(received)


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
