"""The control plane's HTTP client, against a real socket."""

from __future__ import annotations

import asyncio
import gc
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
        self.peers: list[tuple[str, int]] = []
        """Who asked for something, in that order."""
        self.open = 0
        """Connections that neither side has closed."""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.peers.append(writer.get_extra_info("peername"))
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:"))
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            writer.write(answer)
            await writer.drain()


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


async def test_a_line_dialled_before_is_used(stub, client):
    """The call goes over the connection that was begun, and closes it."""
    made = client()
    line = made.dial("127.0.0.1")
    _, writer = await line.answered()
    await made.init("127.0.0.1", {}, None, line=line)
    assert stub.peers == [writer.get_extra_info("sockname")] and writer.transport.is_closing()


async def test_a_line_to_another_address_is_not_used(stub, client):
    """A sandbox whose address changed meanwhile is called where it is now: its token goes nowhere else."""
    made = client()
    line = made.dial("127.0.0.2")
    await made.init("127.0.0.1", {}, "secret", line=line)
    assert [peer[0] for peer in stub.peers] == ["127.0.0.1"]
    line.hang_up()


async def test_a_dead_line_costs_one_try(stub, client):
    """A connection that was refused or that the runtime closed meanwhile is followed by one of the call's own."""
    refused = RuntimeClient(port=1).dial("127.0.0.1")
    await client().init("127.0.0.1", {}, None, line=refused)
    closed = client().dial("127.0.0.1")
    (await closed.answered())[1].transport.abort()
    await client().init("127.0.0.1", {}, None, line=closed)
    assert len(stub.heads) == 2


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 20])
async def test_hanging_up_closes_at_any_moment(stub, client, turns):
    """Whatever has become of the connection by then, nothing stays open and nothing is logged as forgotten."""
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    line = client().dial("127.0.0.1")
    for _ in range(turns):
        await asyncio.sleep(0)
    line.hang_up()
    line.hang_up()
    del line
    while stub.open or len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)
    gc.collect()
    assert not lost and not stub.heads
