"""The client of a kernel's sockets, against a scripted kernel."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Iterator

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session

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
