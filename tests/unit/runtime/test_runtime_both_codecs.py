"""Every method of both services over HTTP in JSON and in binary protobuf, plain and with gzip, as a Go client sends
them. The messages themselves are compared with the SDK's in ``test_runtime_codecs``.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest

from appliance.runtime.connect.codec import JSON, PROTO, Codec
from appliance.runtime.filesystem import messages as f
from appliance.runtime.process import messages as p

pytestmark = pytest.mark.timeout(60)


class Client:
    """Speaks one codec, with or without compression."""

    def __init__(self, envd: Any, codec: Codec, packed: bool) -> None:
        self._envd = envd
        self._codec = codec
        self._packed = packed

    async def unary(self, method: str, message: Any, answer: type) -> Any:
        """A unary call that succeeds."""
        body = self._codec.encode(message)
        headers = {"content-type": f"application/{self._codec.name}"}
        if self._packed:
            body, headers["content-encoding"] = gzip.compress(body), "gzip"
        response = await self._envd.http.post(f"/{method}", content=body, headers=headers)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == headers["content-type"]
        return self._codec.decode(response.content, answer)

    def _frame(self, message: Any) -> bytes:
        data = self._codec.encode(message)
        if self._packed:
            data = gzip.compress(data)
        return bytes((self._packed,)) + len(data).to_bytes(4, "big") + data

    async def stream(self, method: str, messages: list[Any], answer: type) -> AsyncIterator[Any]:
        """A streaming call; the last frame must be there and bring no error."""
        headers = {"content-type": f"application/connect+{self._codec.name}"}
        if self._packed:
            headers |= {"connect-content-encoding": "gzip", "connect-accept-encoding": "gzip"}
        content = b"".join(map(self._frame, messages))
        async with self._envd.http.stream("POST", f"/{method}", content=content, headers=headers) as response:
            assert response.headers["content-type"] == headers["content-type"]
            buffer, ended = b"", False
            async for piece in response.aiter_raw():
                buffer += piece
                while len(buffer) >= 5 and len(buffer) >= (end := 5 + int.from_bytes(buffer[1:5], "big")):
                    flags, data, buffer = buffer[0], buffer[5:end], buffer[end:]
                    assert not ended
                    if flags & 2:
                        assert data == b"{}"
                        ended = True
                    else:
                        yield self._codec.decode(data, answer)
            assert ended
            assert not buffer


@pytest.fixture(
    params=[(JSON, False), (JSON, True), (PROTO, False), (PROTO, True)],
    ids=["json", "json-gzip", "proto", "proto-gzip"],
)
def client(request, envd):
    """A client of each kind."""
    return Client(envd, *request.param)


async def test_processes(client):
    """All eight calls of process.Process, on a program with pipes and on one with a terminal."""
    config = p.ProcessConfig(cmd="/bin/cat", args=[], envs={"A": "b"})
    events = client.stream(
        "process.Process/Start", [p.StartRequest(process=config, tag="t", stdin=True)], p.EventResponse
    )
    pid = (await anext(events)).event.start.pid
    selector = p.ProcessSelector(pid=pid)
    (info,) = (await client.unary("process.Process/List", p.ListRequest(), p.ListResponse)).processes
    assert (info.pid, info.tag, info.config.cmd, info.config.envs) == (pid, "t", "/bin/cat", {"A": "b"})
    by_tag = p.ConnectRequest(process=p.ProcessSelector(tag="t"))
    second = client.stream("process.Process/Connect", [by_tag], p.EventResponse)
    assert (await anext(second)).event.start.pid == pid

    data = p.ProcessInput(stdin="é\x00".encode())
    await client.unary("process.Process/SendInput", p.SendInputRequest(process=selector, input=data), p.Empty)
    assert (await anext(events)).event.data.stdout == data.stdin
    assert (await anext(second)).event.data.stdout == data.stdin
    inputs = [
        p.StreamInputRequest(start=p.InputStart(process=selector)),
        p.StreamInputRequest(keepalive=p.KeepAlive()),
        p.StreamInputRequest(data=p.InputData(input=data)),
    ]
    answers = [each async for each in client.stream("process.Process/StreamInput", inputs, p.Empty)]
    assert answers == [p.Empty()]
    assert (await anext(events)).event.data.stdout == data.stdin
    await client.unary("process.Process/CloseStdin", p.CloseStdinRequest(process=selector), p.Empty)
    (last,) = [each.event.end async for each in events]
    assert (last.exit_code, last.exited, last.status) == (0, True, "exit status 0")
    assert [each.event.end for each in [each async for each in second] if each.event.end] == [last]


async def test_terminals_and_signals(client):
    """A terminal is resized and killed; the end says so in both codecs, minus one included."""
    config = p.ProcessConfig(cmd="/bin/sh", args=["-c", "stty size; read x; stty size; sleep 100"])
    pty = p.Pty(size=p.PtySize(cols=71, rows=17))
    events = client.stream("process.Process/Start", [p.StartRequest(process=config, pty=pty)], p.EventResponse)
    pid = (await anext(events)).event.start.pid
    selector = p.ProcessSelector(pid=pid)
    assert (await anext(events)).event.data.pty == b"17 71\r\n"
    wider = p.UpdateRequest(process=selector, pty=p.Pty(size=p.PtySize(cols=100, rows=30)))
    await client.unary("process.Process/Update", wider, p.Empty)
    newline = p.SendInputRequest(process=selector, input=p.ProcessInput(pty=b"\n"))
    await client.unary("process.Process/SendInput", newline, p.Empty)
    seen = b""
    while b"30 100\r\n" not in seen:
        seen += (await anext(events)).event.data.pty
    kill = p.SendSignalRequest(process=selector, signal="SIGNAL_SIGKILL")
    await client.unary("process.Process/SendSignal", kill, p.Empty)
    (end,) = [each.event.end async for each in events if each.event.end is not None]
    assert (end.exit_code, end.exited, end.status, end.error) == (-1, False, "signal: killed", "signal: killed")


async def test_files(client, envd):
    """All calls of filesystem.Filesystem but the watchers."""
    service = "filesystem.Filesystem"
    made = await client.unary(f"{service}/MakeDir", f.PathRequest(path="a/b"), f.EntryResponse)
    assert (made.entry.type, made.entry.owner) == ("FILE_TYPE_DIRECTORY", "user")
    (envd.home / "a/b/file").write_text("text")
    move = f.MoveRequest(source="a/b/file", destination="c/file")
    moved = (await client.unary(f"{service}/Move", move, f.EntryResponse)).entry
    stat = (await client.unary(f"{service}/Stat", f.PathRequest(path="c/file"), f.EntryResponse)).entry
    assert stat == moved
    assert (stat.size, stat.mode) == ("4", (envd.home / "c/file").stat().st_mode & 0o7777)
    assert stat.modified_time is not None
    listed = await client.unary(f"{service}/ListDir", f.ListDirRequest(path=".", depth=2), f.ListDirResponse)
    assert [entry.name for entry in listed.entries] == ["a", "b", "c", "file"]
    assert await client.unary(f"{service}/Remove", f.PathRequest(path="a"), f.Nothing) == f.Nothing()
    assert not (envd.home / "a").exists()


async def test_watchers(client, envd):
    """Both forms of watching report a new file with its entry."""
    service = "filesystem.Filesystem"
    request = f.WatchRequest(path=".", recursive=True, include_entry=True)
    stream = client.stream(f"{service}/WatchDir", [request], f.WatchDirResponse)
    assert (await anext(stream)).start == f.Nothing()
    polled = await client.unary(f"{service}/CreateWatcher", request, f.WatcherId)
    (envd.home / "new").touch()
    event = (await anext(stream)).filesystem
    assert (event.name, event.type, event.entry.name) == ("new", "EVENT_TYPE_CREATE", "new")
    await stream.aclose()
    events: list[f.FilesystemEvent] = []
    while not events:
        events += (await client.unary(f"{service}/GetWatcherEvents", polled, f.WatcherEvents)).events
        await asyncio.sleep(0)
    assert events[0] == event
    assert await client.unary(f"{service}/RemoveWatcher", polled, f.Nothing) == f.Nothing()
