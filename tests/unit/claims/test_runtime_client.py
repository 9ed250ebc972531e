"""The control plane's HTTP client, against a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from appliance.claims.errors import InitFailed
from appliance.claims.runtime_client import RuntimeClient


class Stub:
    """Answers requests from a list of raw answers; the last one stays. None: close without a word."""

    def __init__(self) -> None:
        self.answers: list[bytes | None] = [b"HTTP/1.1 204 No Content\r\n\r\n"]
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            writer.write(answer)
            await writer.drain()
        writer.close()


@pytest.fixture
async def stub() -> AsyncIterator[Stub]:
    """A stub runtime on a free port."""
    made = Stub()
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    await server.wait_closed()


@pytest.fixture
def client(stub: Stub) -> Callable[[], RuntimeClient]:
    return lambda: RuntimeClient(port=stub.port)


async def test_sends_body_and_token(stub, client):
    """The body is JSON and the token a header."""
    await client().init("127.0.0.1", {"envVars": {"A": "b"}}, "secret")
    assert stub.bodies == [b'{"envVars":{"A":"b"}}']
    assert b"POST /init HTTP/1.1" in stub.heads[0] and b"X-Access-Token: secret" in stub.heads[0]


async def test_repeats_until_it_works(stub, client):
    """A cut connection, nonsense and a 503 are repeated."""
    stub.answers = [None, b"garbage\r\n\r\n", b"HTTP/1.1 503 No\r\n\r\nnot yet", *stub.answers]
    await client().init("127.0.0.1", {}, None)
    assert len(stub.heads) == 4


async def test_401_means_another_delivery(stub, client):
    """A runtime that holds another token is given up at once; another sandbox may do."""
    stub.answers = [b"HTTP/1.1 401 Unauthorized\r\n\r\n"]
    with pytest.raises(InitFailed, match="another delivery") as caught:
        await client().init("127.0.0.1", {}, "mine")
    assert not caught.value.refused and len(stub.heads) == 1


async def test_400_is_about_the_request(stub, client):
    """A 4xx carries the runtime's own words and is not repeated."""
    stub.answers = [b"HTTP/1.1 400 Bad\r\n\r\nenvVars: expected an object"]
    with pytest.raises(InitFailed, match="expected an object") as caught:
        await client().init("127.0.0.1", {}, None)
    assert caught.value.refused


async def test_gives_up_in_time(stub, client):
    """Nothing but errors ends at the deadline, with the last one told."""
    stub.answers = [b"HTTP/1.1 500 Oops\r\n\r\nbroken"]
    with pytest.raises(InitFailed, match="500 broken"):
        await client().init("127.0.0.1", {}, None, timeout=0.1)


async def test_an_endless_head_is_cut_off(stub, client):
    """What is inside a sandbox cannot make the control plane read for ever."""
    stub.answers = [b"HTTP/1.1 200 OK\r\n" + b"x" * 100_000]
    with pytest.raises(InitFailed):
        await client().init("127.0.0.1", {}, None, timeout=0.1)
