"""The floor: a server that does no work. It reads a request to its end and answers with bytes made beforehand, so a
row against it is the price of the client, of loopback and of the bytes themselves.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket

from client import b64

SIZE = 100 * 1024 * 1024
OUTPUT = 10_000_000
_PIECE = 128 * 1024
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"transfer-encoding: *chunked", re.IGNORECASE)


def _frame(value: object, flags: int = 0) -> bytes:
    data = json.dumps(value, separators=(",", ":")).encode()
    return bytes((flags,)) + len(data).to_bytes(4, "big") + data


def _chunked(*pieces: bytes, kind: str = "application/connect+json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def _plain(body: bytes, kind: str = "application/json") -> bytes:
    return f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


_STARTED = _frame({"event": {"start": {"pid": 1}}})
_ENDED = _frame({"event": {"end": {"exited": True, "status": "exit status 0"}}})
_ENTRY = {"name": "x", "type": "FILE_TYPE_FILE", "path": "/home/user/many/x", "size": "1", "mode": 420}
_ENTRY |= {"permissions": "-rw-r--r--", "owner": "user", "group": "user", "modifiedTime": "2026-01-01T00:00:00.5Z"}


def _answers() -> dict[str, bytes]:
    data = _frame({"event": {"data": {"stdout": b64(bytes(32768))}}})
    short = _frame({"event": {"data": {"stdout": b64(b"x\n")}}})
    cell = [{"type": "number_of_executions", "execution_count": 1}]
    cell += [{"type": "result", "text": "1", "extra": {}, "is_main_result": True}, {"type": "end_of_execution"}]
    return {
        "health": b"HTTP/1.1 204 No Content\r\n\r\n",
        "unary": _plain(b"{}"),
        "list": _plain(json.dumps({"entries": [_ENTRY] * 1000}).encode()),
        "start": _chunked(_STARTED, short, _ENDED, _frame({}, 2)),
        "flood": _chunked(_STARTED, *[data] * (OUTPUT // 32768 + 1), _ENDED, _frame({}, 2)),
        "written": _plain(b'[{"name":"x","path":"/x","type":"file"}]'),
        "small": _plain(bytes(1024), "application/octet-stream"),
        "big": _plain(bytes(SIZE), "application/octet-stream"),
        "cell": _chunked(*[json.dumps(line).encode() + b"\n" for line in cell], kind="text/plain"),
    }


class Canned(asyncio.Protocol):
    """One connection."""

    answers: dict[str, bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._rest, self._paused = memoryview(b""), False
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head, self._kept, self._left, self._chunked = b"", b"", 0, False

    def data_received(self, data: bytes) -> None:
        if self._left > len(data):
            self._left -= len(data)
            return
        if not self._head:
            head, found, data = (self._kept + data).partition(b"\r\n\r\n")
            if not found:
                self._kept = head
                return
            self._head, self._kept = head, b""
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else 0
            self._chunked = bool(_CHUNKED.search(head))
        self._kept = (self._kept + data)[-4096:]
        self._left = max(0, self._left - len(data))
        if not self._left and not (self._chunked and not self._kept.endswith(b"0\r\n\r\n")):
            self._rest = memoryview(self._answer(self._head, self._kept))
            self._head = self._kept = b""
            self._pump()

    def _pump(self) -> None:
        while self._rest and not self._paused:
            piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    def _answer(self, head: bytes, body: bytes) -> bytes:
        line = head.partition(b"\r\n")[0].decode()
        name = "unary"
        if "/health" in line:
            name = "health"
        elif "/ListDir" in line:
            name = "list"
        elif "/Start" in line:
            name = "flood" if str(OUTPUT).encode() in body else "start"
        elif "/execute" in line:
            name = "cell"
        elif line.startswith("POST /files"):
            name = "written"
        elif line.startswith("GET /files"):
            name = "big" if "big" in line else "small"
        return self.answers[name]


async def serve(ready: socket.socket) -> None:
    """Serve for ever; tells the port through ``ready``."""
    Canned.answers = _answers()
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0)
    ready.send(str(server.sockets[0].getsockname()[1]).encode())
    ready.close()
    await asyncio.Event().wait()
