"""The program that runs in the namespace of ``outside.py``: ``SETTINGS`` is JSON of what is said there.

HTTP answers ``you reached ADDRESS``, or, for ``/names``, ``ADDRESS host=HOST sni=SNI``, for ``/headers`` the request's
head, after its body if it has one with a length; ``/slow`` sends a byte, then waits for the client to hang up, which
tests use for connections that last.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import struct
import sys
from functools import partial
from ipaddress import IPv4Address
from typing import Any

TTL = 1


async def answer(tls: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """HTTP/1.1, request by request."""
    address = writer.get_extra_info("sockname")[0]
    tunnel = writer.get_extra_info("ssl_object")
    sni = getattr(tunnel, "asked_for", None) if tls else None
    with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ", 2)[1]
            host = next((one[5:].strip() for one in head.split("\r\n") if one.lower().startswith("host:")), "")
            if path.endswith("/slow"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nx")
                await reader.read()
                return
            body = await reader.readexactly(length(head))
            text = f"{address} host={host} sni={sni}\n" if path.endswith("/names") else f"you reached {address}\n"
            if path.endswith("/headers"):
                text = f"{head.strip()}\n{len(body)} bytes\n"
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode())
            await writer.drain()
    writer.close()


def length(head: str) -> int:
    """Of the body, in bytes."""
    own = (line.partition(":")[2] for line in head.split("\r\n") if line.lower().startswith("content-length:"))
    return int(next(own, 0))


class Echo(asyncio.DatagramProtocol):
    """UDP: says where the datagram arrived."""

    def __init__(self, address: str) -> None:
        self._address = address

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(f"you reached {self._address}".encode(), addr)


class NameServer(asyncio.DatagramProtocol):
    """Answers A questions from a zone, with CNAMEs followed; other names do not exist."""

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(self.answer(data), addr)

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                found = self.answer(await reader.readexactly(size))
                writer.write(struct.pack("!H", len(found)) + found)
                await writer.drain()
        writer.close()

    def answer(self, packet: bytes) -> bytes:
        labels, at = [], 12
        while size := packet[at]:
            labels.append(packet[at + 1 : at + 1 + size].decode().lower())
            at += 1 + size
        (kind,) = struct.unpack_from("!H", packet, at + 1)
        question, name, records = packet[12 : at + 5], ".".join(labels), b""
        known, count = name in self._names, 0
        owner = b"\xc0\x0c"
        while known and kind in (1, 255) and name in self._names:
            target = self._names[name]
            if target[0].isdigit():
                records += owner + struct.pack("!HHIH", 1, 1, TTL, 4) + IPv4Address(target).packed
                count += 1
                break
            wire = b"".join(bytes([len(one)]) + one.encode() for one in target.split(".")) + b"\0"
            records += owner + struct.pack("!HHIH", 5, 1, TTL, len(wire)) + wire
            owner, name, count = wire, target, count + 1
        head = packet[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, count, 0, 0)
        return head + question + records


def context(path: str, proven: dict[str, str] | None = None) -> ssl.SSLContext:
    """TLS that remembers the name it was asked for, and proves those that it can."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(path)
    found.set_alpn_protocols(["http/1.1"])
    others = {name: context(one) for name, one in (proven or {}).items()}

    def remember(own: Any, name: str | None, _: ssl.SSLContext) -> None:
        own.asked_for = name
        if name in others:
            own.context = others[name]

    found.sni_callback = remember
    return found


async def main(settings: dict[str, Any]) -> None:
    """Serve for ever."""
    loop = asyncio.get_running_loop()
    for port in (80, 8000):
        await asyncio.start_server(partial(answer, False), "0.0.0.0", port, backlog=1024)
    tls = context(settings["certificate"], settings["proven"])
    await asyncio.start_server(partial(answer, True), "0.0.0.0", 443, ssl=tls, backlog=1024)
    for address in settings["addresses"]:
        await loop.create_datagram_endpoint(partial(Echo, address), local_addr=(address, 9000))
    if settings["dns"]:
        server = NameServer(settings["names"])
        await loop.create_datagram_endpoint(lambda: server, local_addr=(settings["dns"], 53))
        await asyncio.start_server(server.stream, settings["dns"], 53)
    print("serving", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
