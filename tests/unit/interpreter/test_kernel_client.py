"""The client of a kernel's sockets, against a scripted kernel."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

from appliance.runtime.interpreter import client as client_module
from appliance.runtime.interpreter.client import KernelClient
from appliance.runtime.supervise.messages import Connection


class ScriptedKernel:
    """A shell socket that answers when it is told to. Used from the loop's own thread, so that order is certain."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._shell = self._context.socket(zmq.ROUTER)
        self._iopub = self._context.socket(zmq.PUB)
        self._session = Session(key=b"key")
        shell, iopub = (socket.bind_to_random_port("tcp://127.0.0.1") for socket in (self._shell, self._iopub))
        self.connection = Connection("tcp", "127.0.0.1", "key", shell_port=shell, iopub_port=iopub)

    def answer(self) -> None:
        """Read one request (waiting for it) and reply."""
        assert self._shell.poll(10_000)
        identities, parts = self._session.feed_identities(self._shell.recv_multipart())
        request = self._session.deserialize(parts)
        self._session.send(self._shell, "execute_reply", {"status": "ok"}, parent=request, ident=identities)

    def close(self) -> None:
        """Release sockets and threads."""
        self._context.destroy(linger=0)


@pytest.fixture
def kernel() -> Iterator[ScriptedKernel]:
    """A kernel that answers on command."""
    scripted = ScriptedKernel()
    yield scripted
    scripted.close()


async def test_a_connection_that_is_never_answered_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepted by a kernel that is not ready and then lost: the client does not wait for it, it connects again."""
    monkeypatch.setattr(client_module, "_HANDSHAKE_MS", 50)
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: accepted.put(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    context = zmq.asyncio.Context()
    client = KernelClient(context, Connection("tcp", "127.0.0.1", "key", shell_port=port, iopub_port=port))
    try:
        async with asyncio.timeout(30):
            silent = [await accepted.get() for _ in range(4)]
    finally:
        await client.close()
        context.destroy(linger=0)
        server.close()
    for writer in silent:
        writer.close()


async def test_an_answer_that_arrives_while_sending_is_heard(kernel: ScriptedKernel) -> None:
    """A reply that reached the socket just before the next request was sent wakes its reader, and so do later ones."""
    context = zmq.asyncio.Context()
    client = KernelClient(context, kernel.connection)
    try:
        greeting = client.request("execute_request", {})
        kernel.answer()
        await asyncio.wait_for(greeting.get(), 10)  # connected; the reader waits for the socket again
        await asyncio.sleep(0)
        first = client.request("execute_request", {})
        kernel.answer()
        assert select.select([client._shell.fd], [], [], 10)[0]  # the reply is there; the loop has not looked yet
        second = client.request("execute_request", {})
        kernel.answer()
        for inbox in (first, second):
            assert (await asyncio.wait_for(inbox.get(), 10)).kind == "execute_reply"
    finally:
        await client.close()
        context.destroy(linger=0)
