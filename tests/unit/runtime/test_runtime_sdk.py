"""The unmodified E2B Python SDK in debug mode against a runtime on a free port."""

from __future__ import annotations

import asyncio
import io
import os

import e2b
import pytest


@pytest.fixture
async def sandbox(envd, monkeypatch):
    """An async SDK sandbox that talks to the runtime directly."""
    monkeypatch.setenv("E2B_SANDBOX_URL", envd.url)
    return await e2b.AsyncSandbox.create(debug=True)


async def test_commands(sandbox):
    """run, callbacks, exit errors, timeouts, stdin, kill and reconnect behave as the SDK expects."""
    seen = []
    done = await sandbox.commands.run("echo a; echo b >&2; echo é", on_stdout=seen.append)
    assert (done.stdout, done.stderr, "".join(seen)) == ("a\né\n", "b\n", "a\né\n")
    with pytest.raises(e2b.CommandExitException) as caught:
        await sandbox.commands.run("exit 3")
    assert caught.value.exit_code == 3
    with pytest.raises(e2b.TimeoutException):
        await sandbox.commands.run("sleep 20", timeout=0.2)
    handle = await sandbox.commands.run("cat", background=True, stdin=True)
    await sandbox.commands.send_stdin(handle.pid, "hello")
    again = await sandbox.commands.connect(handle.pid)
    await sandbox.commands.close_stdin(handle.pid)
    assert (await handle.wait()).stdout == "hello"
    assert (await again.wait()).exit_code == 0
    handle = await sandbox.commands.run("sleep 60", background=True)
    assert handle.pid in [process.pid for process in await sandbox.commands.list()]
    assert await sandbox.commands.kill(handle.pid) is True
    with pytest.raises(e2b.CommandExitException):
        await handle.wait()
    assert await sandbox.commands.kill(handle.pid) is False


async def test_files(sandbox):
    """write (text, bytes, stream, gzip, many), read, list, info, exists, make_dir, rename, remove work."""
    await sandbox.files.write("d/t.txt", "text")
    await sandbox.files.write("d/b", b"\0\xff")
    await sandbox.files.write("d/s", io.BytesIO(os.urandom(3_000_000)))
    await sandbox.files.write("d/z", "zip" * 1000, gzip=True)
    await sandbox.files.write_files([{"path": "m1", "data": "1"}, {"path": "m2", "data": b"2"}])
    assert await sandbox.files.read("d/t.txt") == "text"
    assert await sandbox.files.read("d/b", format="bytes") == b"\0\xff"
    assert await sandbox.files.read("d/z", gzip=True) == "zip" * 1000
    assert [entry.name for entry in await sandbox.files.list("d")] == ["b", "s", "t.txt", "z"]
    assert (await sandbox.files.get_info("d/s")).size == 3_000_000
    assert [await sandbox.files.exists(name) for name in ("m1", "m3")] == [True, False]
    assert [await sandbox.files.make_dir("x/y") for _ in range(2)] == [True, False]
    assert (await sandbox.files.rename("m1", "x/m")).path.endswith("/x/m")
    await sandbox.files.remove("d")
    with pytest.raises(e2b.FileNotFoundException):
        await sandbox.files.read("d/t.txt")


async def test_watch_and_pty(sandbox):
    """A watch delivers events to its callback; a PTY echoes, resizes and ends."""
    changed = asyncio.Event()
    await sandbox.files.make_dir("w")
    handle = await sandbox.files.watch_dir("w", on_event=lambda event: changed.set())
    await sandbox.files.write("w/f", "x")
    async with asyncio.timeout(10):
        await changed.wait()
    await handle.stop()
    seen = []
    pty = await sandbox.pty.create(e2b.PtySize(rows=10, cols=40), on_data=seen.append)
    await sandbox.pty.resize(pty.pid, e2b.PtySize(rows=11, cols=41))
    await sandbox.pty.send_stdin(pty.pid, b"stty size; exit\n")
    assert (await pty.wait()).exit_code == 0
    assert b"11 41" in b"".join(seen)
