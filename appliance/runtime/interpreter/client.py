"""One kernel's messages: a shell and an iopub socket, framed and signed by ``jupyter_client``'s Session.

Two reader tasks sort what arrives by the request it answers. A request's messages go to its ``Inbox``, which is
bounded: when its reader is slow, this client stops reading, the kernel's publisher blocks, and nothing is lost or
piled up. Messages of requests that nobody waits for (silent snippets, threads that outlive their cell) are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import zmq
import zmq.asyncio
from jupyter_client.session import Session

from appliance.runtime.supervise.messages import Connection

INBOX_MAX: Final = 256
"""Messages held for one execution before reading pauses."""
_RECONNECT_MS: Final = 3
_RECONNECT_MAX_MS: Final = 200
_HANDSHAKE_MS: Final = 5000
"""For a connection that was accepted to be answered; then it is made anew. A kernel that starts may lose one, and
ZeroMQ's own 30 s would be taken for a kernel that does not answer."""


class Message:
    """What the interpreter needs of a Jupyter message."""

    __slots__ = ("content", "date", "kind")

    def __init__(self, kind: str, content: Mapping[str, Any], date: str) -> None:
        self.kind = kind
        self.content = content
        self.date = date


class Inbox(asyncio.Queue[Message]):
    """Messages that answer one request. ``request_id`` is the Jupyter message id."""

    def __init__(self, request_id: str) -> None:
        super().__init__(INBOX_MAX)
        self.request_id = request_id


class KernelClient:
    """Talks to one kernel process. Create and use it in the event loop; ``close()`` when done."""

    def __init__(self, context: zmq.asyncio.Context, connection: Connection) -> None:
        self._session = Session(key=connection.key.encode(), check_pid=False)
        self._shell = self._connect(context, zmq.DEALER, connection, connection.shell_port)
        self._iopub = self._connect(context, zmq.SUB, connection, connection.iopub_port)
        self._iopub.subscribe(b"")
        self._control: zmq.asyncio.Socket | None = None
        self._connect_control = partial(self._connect, context, zmq.DEALER, connection, connection.control_port)
        self._inboxes: dict[str, Inbox] = {}
        self._heard = asyncio.Event()
        """Something came over iopub: the subscription works."""
        self._tasks = [
            asyncio.create_task(self._read(self._shell), name="kernel shell"),
            asyncio.create_task(self._read(self._iopub), name="kernel iopub"),
        ]

    def _connect(
        self, context: zmq.asyncio.Context, kind: int, connection: Connection, port: int
    ) -> zmq.asyncio.Socket:
        socket = context.socket(kind)
        socket.linger = 0
        socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        if kind == zmq.DEALER:
            socket.setsockopt(zmq.IDENTITY, self._session.bsession)
        separator = "-" if connection.transport == "ipc" else ":"
        socket.connect(f"{connection.transport}://{connection.ip}{separator}{port}")
        return socket

    async def close(self) -> None:
        """Stop reading and close the sockets. Whoever waits on an inbox is not told."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._shell.close(0)
        if self._control is not None:
            self._control.close(0)
        self._iopub.close(0)

    async def ready(self, poll: float = 0.25) -> None:
        """Return once the kernel answers and publishes. Asks again every ``poll`` seconds; has no deadline
        of its own.
        """
        while True:
            inbox = self.request("kernel_info_request", {})
            try:
                async with asyncio.timeout(poll):
                    while (await inbox.get()).kind != "kernel_info_reply":
                        pass
                    await self._heard.wait()
                    return
            except TimeoutError:
                poll = min(poll * 1.5, 2.0)
            finally:
                self.forget(inbox)

    def execute(self, code: str, *, silent: bool = False) -> Inbox | None:
        """Send a cell. Returns its inbox (``forget`` it in the end), None for a silent one, which is fire and forget.

        Cells run in the order they were sent. Raises ``zmq.ZMQError`` when the socket cannot take it.
        """
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": False,
            # Cells are sent one by one, so there is nothing to stop but our own snippets behind a failed cell.
            "stop_on_error": False,
        }
        if silent:
            self._send("execute_request", content)
            return None
        return self.request("execute_request", content)

    def fence(self) -> Inbox:
        """Send an empty cell: what the cell before it has still to publish comes before this one is idle."""
        content = {"code": "undefined", "silent": True, "store_history": False, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": False}  # fmt: skip
        return self.request("execute_request", content)

    def request(self, kind: str, content: Mapping[str, Any]) -> Inbox:
        """Send a request on the shell channel and open an inbox for what answers it."""
        inbox = Inbox(self._send(kind, content))
        self._inboxes[inbox.request_id] = inbox
        return inbox

    def forget(self, inbox: Inbox) -> None:
        """Drop what else answers this request, and release a reader that waits for room in it."""
        self._inboxes.pop(inbox.request_id, None)
        while not inbox.empty():
            inbox.get_nowait()

    def interrupt(self) -> None:
        """Ask the kernel over its control channel to interrupt the running cell. Its answer is not waited for."""
        if self._control is None:
            self._control = self._connect_control()
        frames = self._session.serialize(self._session.msg("interrupt_request", {}))
        self._control.send_multipart(frames, zmq.NOBLOCK).result()

    def _send(self, kind: str, content: Mapping[str, Any]) -> str:
        message = self._session.msg(kind, dict(content))
        frames = self._session.serialize(message)
        # Done when the call returns (NOBLOCK), so requests leave in the order of the calls. Not on the plain socket
        # underneath: sending there can swallow the wake-up of an answer that is just arriving, and of all after it.
        self._shell.send_multipart(frames, zmq.NOBLOCK).result()
        return str(message["header"]["msg_id"])

    async def _read(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            frames = await socket.recv_multipart()
            with contextlib.suppress(ValueError, TypeError, KeyError, IndexError):  # a forged or broken message
                await self._sort(frames, publication=socket is self._iopub)

    async def _sort(self, frames: list[bytes], *, publication: bool) -> None:
        _, parts = self._session.feed_identities(frames, copy=True)
        message = self._session.deserialize(parts, content=True, copy=True)
        if publication:
            self._heard.set()
        inbox = self._inboxes.get(message["parent_header"].get("msg_id", ""))
        if inbox is not None:
            date = message["header"].get("date")
            text = date if isinstance(date, str) else date.isoformat() if date is not None else ""
            await inbox.put(Message(message["msg_type"], message["content"], text))
