"""Uploads over files that exist: what the file holds afterwards, also when the upload does not get to its end."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from appliance.runtime.files.target import FLUSH, Target
from appliance.runtime.http import HttpError
from appliance.runtime.users import User

OCTETS = {"content-type": "application/octet-stream"}
SMALL = b"small"
LARGE = bytes(range(256)) * (5 * FLUSH // 512)  # 2.5 buffers


@pytest.mark.parametrize("old", [b"", b"s", SMALL, SMALL * 2, LARGE, LARGE + b"more"])
@pytest.mark.parametrize("new", [b"", SMALL, LARGE])
async def test_the_new_content_is_all_there_is(envd, old, new):
    """Whatever was there before, longer or shorter, the file holds the upload and nothing else, in both forms."""
    for name in ("octets", "multi"):
        (envd.home / name).write_bytes(old)
    assert (await envd.http.post("/files?path=octets", content=new, headers=OCTETS)).status_code == 200
    assert (await envd.http.post("/files", files=[("file", ("multi", new))])).status_code == 200
    for name in ("octets", "multi"):
        assert (envd.home / name).read_bytes() == new


async def test_an_empty_upload_is_a_change(envd):
    """An empty body over an empty file still moves its time, as truncating does."""
    path = envd.home / "empty"
    path.touch()
    os.utime(path, (1, 1))
    assert (await envd.http.post("/files?path=empty", content=b"", headers=OCTETS)).status_code == 200
    assert path.stat().st_mtime > 1


async def test_a_body_that_never_comes_leaves_the_old_file(envd):
    """A client that vanishes after the head, with the file already open, has changed nothing in it."""
    (envd.home / "kept").write_bytes(SMALL)
    host, port = envd.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "POST /files?path=kept HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\n"
    writer.write(f"{head}content-length: 100\r\nexpect: 100-continue\r\n\r\n".encode())
    assert (await reader.readline()).startswith(b"HTTP/1.1 100")  # asked for once the file is open
    writer.write(b"a part")
    writer.close()
    await writer.wait_closed()
    assert (await envd.http.get("/files?path=kept")).content == SMALL


async def test_a_failed_first_write_leaves_what_was_written(tmp_path, monkeypatch):
    """A disk that fills in the first write leaves the new beginning, not a mixture of new and old, and is a 507."""
    path = tmp_path / "file"
    path.write_bytes(b"the old content")
    target = Target.open(str(path), _me(tmp_path), {})
    await target.write(b"new content")
    room = [3]
    real = os.writev

    def writev(descriptor: int, pieces: list[bytes]) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "full")
        return real(descriptor, [pieces[0][: room.pop()]])

    monkeypatch.setattr(os, "writev", writev)
    with pytest.raises(HttpError) as caught:
        await target.finish()
    target.abandon()
    assert caught.value.status == 507
    assert path.read_bytes() == b"new"


async def test_a_large_file_on_an_overlay_is_emptied_at_once(tmp_path, monkeypatch):
    """There opening without truncating would copy the old content up first; a small one is cut as everywhere."""
    monkeypatch.setattr("appliance.runtime.files.target.on_overlay", lambda path: True)
    for old, left in ((LARGE, b""), (SMALL, SMALL)):
        path = tmp_path / "file"
        path.write_bytes(old)
        target = Target.open(str(path), _me(tmp_path), {})
        assert path.read_bytes() == left
        await target.write(b"new")
        await target.finish()
        target.abandon()
        assert path.read_bytes() == b"new"


def _me(home: Path) -> User:
    return User("me", os.geteuid(), os.getegid(), str(home), "/bin/sh", ())
