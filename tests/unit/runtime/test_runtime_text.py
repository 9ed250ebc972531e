"""File names that are no UTF-8: one of them must not hide its neighbours, and each can be reached by its bytes."""

from __future__ import annotations

import asyncio
import os

import pytest

from appliance.runtime.auth import sign

NAME = b"caf\xe9.txt"
SHOWN = "caf\ufffd.txt"


@pytest.fixture
def odd(home):
    """A directory with such a file and an ordinary one."""
    directory = home / "odd"
    directory.mkdir()
    (directory / "plain").touch()
    with open(os.fsencode(directory) + b"/" + NAME, "wb") as file:
        file.write(b"content")
    return directory


@pytest.mark.parametrize("codec", ["json", "proto"])
async def test_a_listing_has_its_neighbours(envd, odd, codec):
    """The bytes are told as a replacement character, in either codec; the rest of the listing is there."""
    if codec == "json":
        answer = await envd.rpc("filesystem.Filesystem/ListDir", {"path": "odd"})
        names = [entry["name"] for entry in answer.json()["entries"]]
        assert names == [SHOWN, "plain"]
    else:
        body = b"\x0a\x03odd"
        headers = {"content-type": "application/proto"}
        answer = await envd.http.post("/filesystem.Filesystem/ListDir", content=body, headers=headers)
        assert answer.status_code == 200
        assert b"plain" in answer.content and b"caf?.txt" in answer.content


async def test_a_watcher_goes_on(envd, odd):
    """An event with such a name is told, and those after it too."""
    made = await envd.rpc("filesystem.Filesystem/CreateWatcher", {"path": "odd"})
    with open(os.fsencode(odd) + b"/\xff", "wb"):
        pass
    (odd / "after").touch()
    names: set[str] = set()
    async with asyncio.timeout(20):
        while "after" not in names:
            answer = await envd.rpc("filesystem.Filesystem/GetWatcherEvents", made.json())
            assert answer.status_code == 200, answer.text
            names |= {event["name"] for event in answer.json().get("events", [])}
    assert "\ufffd" in names


async def test_its_bytes_reach_it(envd, odd):
    """Percent-encoded bytes name the file in downloads, uploads, errors and signatures."""
    answer = await envd.http.get("/files?path=odd/caf%E9.txt")
    assert (answer.status_code, answer.content) == (200, b"content")
    assert answer.headers["content-disposition"] == "inline; filename*=utf-8''caf%E9.txt"
    headers = {"content-type": "application/octet-stream"}
    answer = await envd.http.post("/files?path=odd/new%FF", content=b"x", headers=headers)
    assert answer.json()[0]["name"] == "new\ufffd"
    assert os.path.exists(os.fsencode(odd) + b"/new\xff")
    answer = await envd.http.get("/files?path=odd/none%FF")
    assert answer.status_code == 404
    assert answer.json()["message"].endswith("/odd/none\ufffd' does not exist")
    envd.state.access_token = "secret"
    signature = sign(os.fsdecode(b"odd/caf\xe9.txt"), "read", "", "secret", None)
    assert (await envd.http.get(f"/files?path=odd/caf%E9.txt&signature={signature.replace('+', '%2B')}")).is_success
