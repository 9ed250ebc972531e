"""The filesystem service over the wire."""

from __future__ import annotations

import asyncio
import os

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user needs root: run as root")
FS = "filesystem.Filesystem/"


async def entry(envd, path) -> dict:
    answer = await envd.rpc(FS + "Stat", {"path": str(path)})
    assert answer.status_code == 200, answer.text
    return answer.json()["entry"]


async def test_stat_of_a_file(envd):
    """A file's entry has name, type, mode, Go's permission text, owner names, size as text and time with zone."""
    path = envd.home / "f.txt"
    path.write_bytes(b"12345")
    path.chmod(0o644)
    os.chown(path, envd.uid, envd.gid)
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    assert await entry(envd, "f.txt") == {
        "name": "f.txt",
        "type": "FILE_TYPE_FILE",
        "path": str(path),
        "size": "5",
        "mode": 0o644,
        "permissions": "-rw-r--r--",
        "owner": "user",
        "group": "user",
        "modifiedTime": "2023-11-14T22:13:20.123456789Z",
    }


async def test_stat_of_links(envd):
    """A link shows its target's type and mode and L-permissions; a broken one has no type."""
    (envd.home / "dir").mkdir(mode=0o750)
    (envd.home / "good").symlink_to("dir")
    (envd.home / "broken").symlink_to("nowhere")
    good = await entry(envd, "good")
    assert (good["type"], good["mode"], good["permissions"]) == ("FILE_TYPE_DIRECTORY", 0o750, "Lrwxrwxrwx")
    assert (good["symlinkTarget"], good["isSymlink"]) == (str(envd.home / "dir"), True)
    broken = await entry(envd, "broken")
    assert "type" not in broken and "mode" not in broken
    assert broken["symlinkTarget"] == str(envd.home / "nowhere")


async def test_special_bits_are_no_part_of_the_mode(envd):
    """Mode has the nine permission bits; set-user-id, set-group-id and sticky are letters of the permission text."""
    (envd.home / "dir").mkdir()
    for bits, text in ((0o1777, "dtrwxrwxrwx"), (0o2755, "dgrwxr-xr-x"), (0o4700, "durwx------")):
        (envd.home / "dir").chmod(bits)
        found = await entry(envd, "dir")
        assert (found["mode"], found["permissions"]) == (bits & 0o777, text)


async def test_stat_errors(envd):
    """Missing is not_found; the home of another user by ~ is invalid_argument."""
    answer = await envd.rpc(FS + "Stat", {"path": "/no/such"})
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    answer = await envd.rpc(FS + "Stat", {"path": "~root/x"})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_argument")


@needs_root
async def test_make_dir(envd):
    """All new levels are 0755 and the user's, also outside its home; existing ones are already_exists or invalid."""
    path = envd.home.parent / "new" / "deep"
    made = (await envd.rpc(FS + "MakeDir", {"path": str(path)})).json()["entry"]
    assert (made["type"], made["permissions"], made["owner"]) == ("FILE_TYPE_DIRECTORY", "drwxr-xr-x", "user")
    assert path.parent.stat().st_uid == envd.uid
    again = await envd.rpc(FS + "MakeDir", {"path": str(path)})
    assert (again.status_code, again.json()["code"]) == (409, "already_exists")
    (path / "file").touch()
    for below in ("file", "file/x"):
        wrong = await envd.rpc(FS + "MakeDir", {"path": str(path / below)})
        assert (wrong.status_code, wrong.json()["code"]) == (400, "invalid_argument")


async def test_move(envd):
    """Move makes parents and replaces a file; a missing source is not_found and leaves no parents behind."""
    (envd.home / "a").write_text("new")
    (envd.home / "b").write_text("old")
    assert (await envd.rpc(FS + "Move", {"source": "a", "destination": "b"})).json()["entry"]["size"] == "3"
    assert (await envd.rpc(FS + "Move", {"source": "b", "destination": "x/y/c"})).is_success
    assert (envd.home / "x/y/c").read_text() == "new"
    missing = await envd.rpc(FS + "Move", {"source": "gone", "destination": "p/q"})
    assert missing.json() == {"code": "not_found", "message": f"source file not found: {envd.home}/gone"}
    assert not (envd.home / "p").exists()


async def test_remove(envd):
    """A tree goes, its links' targets stay, a missing path is success, the root is refused."""
    (envd.home / "tree/sub").mkdir(parents=True)
    (envd.home / "keep").mkdir()
    (envd.home / "keep/f").touch()
    (envd.home / "tree/link").symlink_to(envd.home / "keep")
    for _ in range(2):
        assert (await envd.rpc(FS + "Remove", {"path": "tree"})).json() == {}
    assert (envd.home / "keep/f").exists()
    assert (await envd.rpc(FS + "Remove", {"path": "/"})).status_code == 400


async def list_dir(envd, path, **more) -> list[str]:
    answer = await envd.rpc(FS + "ListDir", {"path": str(path), **more})
    assert answer.is_success, answer.text
    return [e["path"] for e in answer.json().get("entries", [])]


async def test_list_order_depth_and_prefix(envd):
    """Depth-first byte order, depth 0 is 1, the requested path is the prefix, inner links are not followed."""
    for name in ("b/c", "a/z", "a/y"):
        (envd.home / name).mkdir(parents=True)
    (envd.home / "a/z/deep").touch()
    (envd.home / "B").symlink_to("a")
    home = str(envd.home)
    assert await list_dir(envd, home) == [f"{home}/{n}" for n in ("B", "a", "b")]
    everything = [f"{home}/{n}" for n in ("B", "a", "a/y", "a/z", "a/z/deep", "b", "b/c")]
    assert await list_dir(envd, home, depth=9) == everything
    assert await list_dir(envd, f"{home}/B", depth=2) == [f"{home}/B/{n}" for n in ("y", "z", "z/deep")]


async def test_list_errors(envd):
    """Missing, not a directory and a cycle of links have codes of their own."""
    (envd.home / "f").touch()
    (envd.home / "loop").symlink_to("loop")
    answers = [(await envd.rpc(FS + "ListDir", {"path": p})).json() for p in ("none", "f", "loop")]
    assert [answer["code"] for answer in answers] == ["not_found", "invalid_argument", "failed_precondition"]
    assert "cyclic symlink" in answers[2]["message"]


class Watching:
    """A streaming watcher with the names and types it has seen."""

    def __init__(self, stream):
        self.stream = stream

    async def until(self, name: str, kind: str) -> list[tuple[str, str]]:
        seen = []
        async with asyncio.timeout(10):
            while (name, kind) not in seen:
                event = (await self.stream.next()).get("filesystem")
                if event:
                    seen.append((event["name"], event["type"].removeprefix("EVENT_TYPE_")))
        return seen


async def watch(envd, path, **more) -> Watching:
    stream = await envd.open(FS + "WatchDir", {"path": str(path), **more})
    assert await stream.next() == {"start": {}}
    return Watching(stream)


async def test_upload_of_a_new_file_is_three_events(envd):
    """Writing a new file through /files is exactly CREATE, CHMOD, WRITE."""
    watching = await watch(envd, envd.home)
    await envd.http.post("/files", files=[("file", ("new.txt", b"data"))])
    (envd.home / "marker").mkdir()
    seen = await watching.until("marker", "CREATE")
    assert seen[:-1] == [("new.txt", kind) for kind in ("CREATE", "CHMOD", "WRITE")]
    await watching.stream.close()


async def test_recursive_watch_sees_new_directories(envd):
    """What is put into a directory that is created while watching is reported, once."""
    watching = await watch(envd, envd.home, recursive=True)
    (envd.home / "nested/deeper").mkdir(parents=True)
    (envd.home / "nested/deeper/test.txt").write_text("x")
    seen = await watching.until("nested/deeper/test.txt", "CREATE")
    (envd.home / "nested/deeper/late").touch()
    seen += await watching.until("nested/deeper/late", "CREATE")
    assert [s for s in seen if s[1] == "CREATE"] == [
        (name, "CREATE") for name in ("nested", "nested/deeper", "nested/deeper/test.txt", "nested/deeper/late")
    ]
    await watching.stream.close()


async def test_moves_inside_and_out(envd):
    """A move away is RENAME of the old name; inside the tree also CREATE of the new one, which is watched on."""
    (envd.home / "w/d").mkdir(parents=True)
    watching = await watch(envd, envd.home / "w", recursive=True)
    (envd.home / "w/d").rename(envd.home / "w/e")
    assert await watching.until("e", "CREATE") == [("d", "RENAME"), ("e", "CREATE")]
    (envd.home / "w/e/f").touch()
    assert ("e/f", "CREATE") in await watching.until("e/f", "CREATE")
    (envd.home / "w/e").rename(envd.home / "out")
    (envd.home / "out/unseen").touch()
    (envd.home / "w/end").touch()
    assert not any("unseen" in name for name, _ in await watching.until("end", "CREATE"))
    await watching.stream.close()


async def test_polled_watcher(envd):
    """Create, poll (events are drained, entries on request), remove; then its id is not_found."""
    body = {"path": str(envd.home), "include_entry": True}
    watcher = (await envd.rpc(FS + "CreateWatcher", body)).json()
    (envd.home / "x").write_text("1")
    events = []
    async with asyncio.timeout(10):
        while not any(e["type"] == "EVENT_TYPE_WRITE" for e in events):
            events += (await envd.rpc(FS + "GetWatcherEvents", watcher)).json().get("events", [])
    assert events[0]["entry"]["path"] == str(envd.home / "x")
    assert (await envd.rpc(FS + "GetWatcherEvents", watcher)).json() == {}
    assert (await envd.rpc(FS + "RemoveWatcher", watcher)).json() == {}
    assert (await envd.rpc(FS + "GetWatcherEvents", watcher)).json()["code"] == "not_found"


async def test_watch_errors(envd):
    """A missing path is not_found, a file invalid_argument."""
    (envd.home / "f").touch()
    codes = [(await envd.rpc(FS + "CreateWatcher", {"path": p})).json()["code"] for p in ("none", "f")]
    assert codes == ["not_found", "invalid_argument"]


async def test_watch_deadline(envd):
    """A watch ends with deadline_exceeded at Connect-Timeout-Ms."""
    stream = await envd.open(FS + "WatchDir", {"path": str(envd.home)}, connect_timeout_ms="50")
    with pytest.raises(envd.StreamError) as caught:
        await stream.rest()
    assert caught.value.code == "deadline_exceeded"


async def test_the_oldest_clients_get_name_type_and_path(envd):
    """A User-Agent of connect-python is answered without the members its SDK does not know."""
    (envd.home / "f").write_text("x")
    headers = {"user_agent": "connect-python"}
    stat = (await envd.rpc("filesystem.Filesystem/Stat", {"path": "f"}, **headers)).json()["entry"]
    assert stat == {"name": "f", "type": "FILE_TYPE_FILE", "path": str(envd.home / "f")}
    listed = (await envd.rpc("filesystem.Filesystem/ListDir", {"path": "."}, **headers)).json()["entries"]
    assert listed == [stat]
