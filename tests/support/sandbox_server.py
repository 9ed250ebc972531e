"""A server that tests run inside a sandbox: ``sandbox_server.py HOST PORT [CERT KEY]``, with TLS if a certificate is
named. Standard library only; prints when ready.

``GET /sse`` sends one event, and the second when somebody asked ``/go``; ``GET /meet/N`` answers once N callers wait;
``Upgrade: echo`` echoes bytes; ``POST`` answers with the size and SHA-256 of its body; anything else with what it saw.
"""

import asyncio
import hashlib
import json
import ssl
import sys

waiting: list[asyncio.Future[None]] = []
go = asyncio.Event()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection, kept alive."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
            if fields.get("upgrade") == "echo":
                await echo(reader, writer)
                return
            await answer(method, target, fields, reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def answer(
    method: str, target: str, fields: dict[str, str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """One request."""
    if target == "/sse":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for number in (1, 2):
            event = b"data: %d\n\n" % number
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            await go.wait()
        writer.write(b"0\r\n\r\n")
        return
    if target == "/go":
        go.set()
    if target.startswith("/meet/"):
        await meet(int(target.rpartition("/")[2]))
    if fields.get("expect") == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    body = await payload(fields, reader)
    seen = {"method": method, "target": target, "fields": fields}
    seen |= {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    text = json.dumps(seen).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text))
    await writer.drain()


async def payload(fields: dict[str, str], reader: asyncio.StreamReader) -> bytes:
    """The request's body."""
    if fields.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(fields.get("content-length", "0")))
    chunks = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(chunks)


async def meet(count: int) -> None:
    """Wait until so many are here."""
    mine = asyncio.get_running_loop().create_future()
    waiting.append(mine)
    if len(waiting) == count:
        for one in waiting:
            one.set_result(None)
        waiting.clear()
    await mine


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Both directions are bytes from here on."""
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def main() -> None:
    """Serve for ever."""
    host, port, *pair = sys.argv[1:]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if pair else None
    if context is not None:
        context.load_cert_chain(*pair)
    server = await asyncio.start_server(serve, host, int(port), backlog=256, ssl=context)
    print("serving", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
