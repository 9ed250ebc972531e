"""envd through the unmodified Python SDKs on a real box: commands, files, watchers, terminals, git (contract §2)."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import e2b
import httpx
import pytest
from boxes import RunningBox
from e2b import Sandbox

pytestmark = [pytest.mark.box, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def sandbox(box: RunningBox) -> Iterator[Sandbox]:
    """One sandbox for tests that leave it usable, with a variable of its own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in box.env.items():
            patch.setenv(name, value)
        made = Sandbox.create(template="code-interpreter", timeout=600, envs={"OWN": "global"})
        yield made
        made.kill()


def test_commands_report_output_and_ends(sandbox: Sandbox) -> None:
    """Output on both channels, exit codes, signals and a missing program arrive as the SDK's own types."""
    seen: list[str] = []
    done = sandbox.commands.run("echo o; echo e >&2; printf '\\xff\\xc3(é😀'", on_stdout=seen.append)
    assert (done.stdout, done.stderr) == ("o\n\ufffd\ufffd(é😀", "e\n")
    assert "".join(seen) == done.stdout
    for command, code in (("exit 3", 3), ("kill -9 $$", -1), ("no-such-program", 127)):
        with pytest.raises(e2b.CommandExitException) as caught:
            sandbox.commands.run(command)
        assert caught.value.exit_code == code


def test_who_where_and_with_what(sandbox: Sandbox) -> None:
    """User, directory and variables are the request's, the sandbox's behind them, and nothing stays behind."""
    who = "id -un; pwd; echo $OWN-$CALL-$HOME"
    assert sandbox.commands.run(who).stdout == "user\n/home/user\nglobal--/home/user\n"
    as_root = sandbox.commands.run(who, user="root", cwd="/tmp", envs={"CALL": "c"})
    assert as_root.stdout == "root\n/tmp\nglobal-c-/root\n"
    assert sandbox.commands.run("sudo -n id -u; id -Gn").stdout == "0\nuser sudo users\n"
    with pytest.raises(e2b.InvalidArgumentException, match="cwd '/nope' does not exist"):
        sandbox.commands.run("pwd", cwd="/nope")
    with pytest.raises(e2b.AuthenticationException, match="invalid username: 'ghost'"):
        sandbox.commands.run("pwd", user="ghost")


def test_nothing_of_the_box_shows_in_a_sandbox(sandbox: Sandbox, box: RunningBox) -> None:
    """Command lines, environments and mounts inside name nothing of the box's data directory."""
    look = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ /proc/self/mountinfo; ps axww -o args"
    shown = sandbox.commands.run(look, user="root").stdout
    assert "appliance: sandbox" in shown
    assert str(box.data_dir) not in shown
    assert "template.sock" not in shown


def test_stdin_is_a_pipe_only_when_asked_for(sandbox: Sandbox) -> None:
    """With stdin a command reads what is sent until it is closed; without, it reads end of file at once."""
    assert sandbox.commands.run("cat; echo end", timeout=10).stdout == "end\n"
    handle = sandbox.commands.run("cat; echo end", background=True, stdin=True)
    sandbox.commands.send_stdin(handle.pid, "one\n")
    assert handle.pid in [process.pid for process in sandbox.commands.list()]
    sandbox.commands.close_stdin(handle.pid)
    assert handle.wait().stdout == "one\nend\n"


def test_deadlines_are_the_servers(sandbox: Sandbox) -> None:
    """At its deadline a command is killed and the client told, also when nobody listens any more."""
    with pytest.raises(e2b.TimeoutException):
        sandbox.commands.run("sleep 61.5", timeout=0.5)
    handle = sandbox.commands.run("sleep 61.6", background=True, timeout=0.5)
    handle.disconnect()
    gone = "for i in $(seq 100); do pgrep -f 'sleep 61.[56]$' || exit 0; sleep 0.1; done; exit 1"
    assert sandbox.commands.run(gone, timeout=20).exit_code == 0


def test_processes_outlive_their_clients(sandbox: Sandbox) -> None:
    """A command goes on without listeners, can be joined again, and answers for a while after its end."""
    handle = sandbox.commands.run("read go; echo late; exit 4", background=True, stdin=True)
    handle.disconnect()
    again = sandbox.commands.connect(handle.pid)
    sandbox.commands.send_stdin(handle.pid, "go\n")
    with pytest.raises(e2b.CommandExitException) as caught:
        again.wait()
    assert (caught.value.exit_code, caught.value.stdout) == (4, "late\n")
    with pytest.raises(e2b.CommandExitException):
        sandbox.commands.connect(handle.pid).wait()
    with pytest.raises(e2b.NotFoundException, match="process with pid 999999 not found"):
        sandbox.commands.connect(999_999)
    assert sandbox.commands.kill(999_999) is False


async def test_many_short_processes_all_end(sandbox: Sandbox) -> None:
    """A hundred commands of a millisecond each, at once: every one has its output and its end."""
    again = await e2b.AsyncSandbox.connect(sandbox.sandbox_id)
    done = await asyncio.gather(*(again.commands.run(f"echo {number}") for number in range(100)))
    assert [result.stdout for result in done] == [f"{number}\n" for number in range(100)]


async def test_a_slow_listener_slows_the_command_and_loses_nothing(sandbox: Sandbox) -> None:
    """A client that reads late gets every byte of 30 MB, while the runtime's memory stays bounded."""
    again = await e2b.AsyncSandbox.connect(sandbox.sandbox_id)
    release = asyncio.Event()
    sizes: list[int] = []

    async def slow(text: str) -> None:
        await release.wait()
        sizes.append(len(text))

    handle = await again.commands.run(
        "head -c 30000000 /dev/zero | tr '\\0' x", background=True, on_stdout=slow, timeout=60
    )
    probe = "awk '/VmRSS/ {print $2}' /proc/$(pgrep -x runtime)/status"
    used = int((await again.commands.run(probe)).stdout)
    assert handle.pid in [process.pid for process in await again.commands.list()]
    release.set()
    await handle.wait()
    assert sum(sizes) == 30_000_000
    assert used < 150_000


def test_files_of_every_kind(sandbox: Sandbox) -> None:
    """Text, bytes, streams, gzip, several at once and none at all come back as they went."""
    blob = os.urandom(3_000_000)
    sandbox.files.write("k/text é", "grüße")
    sandbox.files.write("k/stream", io.BytesIO(blob))
    sandbox.files.write("k/zip", "z" * 100_000, gzip=True)
    sandbox.files.write("k/empty", b"")
    sandbox.files.write_files([{"path": "k/a", "data": "1"}, {"path": "k/deep/b", "data": blob}])
    assert sandbox.files.read("k/text é") == "grüße"
    assert b"".join(sandbox.files.read("k/stream", format="stream")) == blob
    assert sandbox.files.read("k/zip", gzip=True) == "z" * 100_000
    assert sandbox.files.read("k/empty") == ""
    assert sandbox.files.read("k/deep/b", format="bytes") == blob
    names = [entry.name for entry in sandbox.files.list("k", depth=2)]
    assert names == ["a", "deep", "b", "empty", "stream", "text é", "zip"]
    with pytest.raises(e2b.InvalidArgumentException, match="is a directory"):
        sandbox.files.read("k")
    with pytest.raises(e2b.FileNotFoundException, match="does not exist"):
        sandbox.files.read("k/none")


def test_entries_owners_and_links(sandbox: Sandbox) -> None:
    """Files are made with root's rights and given to the user; entries and links are described as documented."""
    assert sandbox.files.make_dir("/e2e/deep") is True
    assert sandbox.files.make_dir("/e2e/deep") is False
    sandbox.files.write("/e2e/f", "12", metadata={"who": "me"})
    entry = sandbox.files.get_info("/e2e/f")
    assert (entry.size, entry.mode, entry.permissions, entry.owner) == (2, 0o644, "-rw-r--r--", "user")
    assert entry.metadata == {"who": "me"}
    sandbox.commands.run("ln -s f /e2e/link; ln -s /nowhere /e2e/broken", user="root")
    link, broken = sandbox.files.get_info("/e2e/link"), sandbox.files.get_info("/e2e/broken")
    assert (link.type, link.mode, link.symlink_target) == (e2b.FileType.SYMLINK, 0o644, "/e2e/f")
    assert (broken.permissions, broken.symlink_target) == ("Lrwxrwxrwx", "/nowhere")
    assert sandbox.files.rename("/e2e/f", "/e2e/new/dir/g").path == "/e2e/new/dir/g"
    sandbox.files.remove("/e2e")
    sandbox.files.remove("/e2e")
    assert sandbox.files.exists("/e2e") is False


def test_watchers_see_the_documented_events(sandbox: Sandbox) -> None:
    """A new file through /files is CREATE, CHMOD, WRITE and nothing else; renames and removals follow."""
    sandbox.files.make_dir("w/sub")
    watch = sandbox.files.watch_dir("w", recursive=True)
    sandbox.files.write("w/sub/f", "text")
    assert _events(watch, 3) == [("sub/f", "create"), ("sub/f", "chmod"), ("sub/f", "write")]
    sandbox.files.rename("w/sub/f", "w/g")
    sandbox.files.remove("w/g")
    assert _events(watch, 3) == [("sub/f", "rename"), ("g", "create"), ("g", "remove")]
    watch.stop()
    with pytest.raises(e2b.FileNotFoundException):
        sandbox.files.watch_dir("w/none")
    with pytest.raises(e2b.InvalidArgumentException, match="not a directory"):
        sandbox.files.watch_dir(".bashrc")


def _events(watch: e2b.WatchHandle, count: int) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    deadline = time.monotonic() + 10
    while len(found) < count and time.monotonic() < deadline:
        found += [(event.name, event.type.value) for event in watch.get_new_events()]
    return found


async def test_ten_thousand_files_in_a_watched_tree(sandbox: Sandbox) -> None:
    """A streaming watcher of a tree in which 10,000 files appear reports each of them."""
    again = await e2b.AsyncSandbox.connect(sandbox.sandbox_id)
    created: set[str] = set()
    complete = asyncio.Event()

    def note(event: e2b.FilesystemEvent) -> None:
        if event.type is e2b.FilesystemEventType.CREATE:
            created.add(event.name)
        if len(created) == 10_000:
            complete.set()

    await again.files.make_dir("many")
    handle = await again.files.watch_dir("many", on_event=note)
    await again.commands.run("cd many && seq 10000 | xargs touch", timeout=60)
    async with asyncio.timeout(30):
        await complete.wait()
    await handle.stop()
    await again.files.remove("many")


def test_a_terminal(sandbox: Sandbox) -> None:
    """A PTY is a login shell with the SDK's variables, resizes, takes input and ends with its exit code."""
    seen: list[bytes] = []
    handle = sandbox.pty.create(e2b.PtySize(rows=20, cols=70), envs={"MINE": "1"}, cwd="/tmp")
    sandbox.pty.resize(handle.pid, e2b.PtySize(rows=31, cols=97))
    sandbox.pty.send_stdin(handle.pid, b"echo $MINE:$TERM:$LANG:$PWD:$(tty); stty size; exit 5\n")
    with pytest.raises(e2b.CommandExitException) as caught:
        handle.wait(on_pty=seen.append)
    output = b"".join(seen)
    assert caught.value.exit_code == 5
    assert b"1:xterm-256color:C.UTF-8:/tmp:/dev/pts/" in output
    assert b"31 97" in output


def test_git(sandbox: Sandbox) -> None:
    """The SDK's git module makes a repository, commits and branches in it."""
    sandbox.git.init("/home/user/repo", initial_branch="main")
    sandbox.git.configure_user("A", "a@b.c", scope="local", path="/home/user/repo")
    sandbox.files.write("repo/f", "x")
    sandbox.git.add("/home/user/repo")
    sandbox.git.commit("/home/user/repo", "first")
    sandbox.git.create_branch("/home/user/repo", "next")
    assert set(sandbox.git.branches("/home/user/repo").branches) == {"main", "next"}
    assert sandbox.git.status("/home/user/repo").file_status == []


def test_signed_links_work_without_a_token(sandbox: Sandbox) -> None:
    """upload_url and download_url carry a signature; an expired or altered one is refused."""

    def routed(url: str) -> str:
        """One address serves every sandbox here, so the link needs the path form of the route."""
        return url.replace("/files?", f"/kruise/{sandbox.sandbox_id}/49983/files?")

    sent = httpx.post(routed(sandbox.upload_url("signed")), files={"file": ("signed", b"by link")})
    assert sent.status_code == 200
    link = routed(sandbox.download_url("signed"))
    assert httpx.get(link).text == "by link"
    assert httpx.get(link.replace("path=signed", "path=.bashrc")).status_code == 401
    late = httpx.get(routed(sandbox.download_url("signed", use_signature_expiration=-10)))
    assert (late.status_code, late.json()) == (401, {"code": 401, "message": "signature is already expired"})


def test_a_full_disk_is_said_and_survived(sandbox: Sandbox) -> None:
    """An upload that does not fit answers 507 with the documented words, and the next one works."""
    sandbox.commands.run("mkdir -p /tmp/small && mount -t tmpfs -o size=1m tmpfs /tmp/small", user="root")
    with pytest.raises(e2b.NotEnoughSpaceException, match="not enough disk space"):
        sandbox.files.write("/tmp/small/big", b"x" * 3_000_000)
    sandbox.files.write("/tmp/small/big", b"x")
    assert sandbox.files.read("/tmp/small/big") == "x"


def test_bytes_pass_through_at_any_speed(sandbox: Sandbox) -> None:
    """curl with Expect and an upload of unknown length works as with any server, and so does a range."""
    headers = ["-H", f"E2b-Sandbox-Id: {sandbox.sandbox_id}", "-H", "E2b-Sandbox-Port: 49983"]
    headers += ["-H", f"X-Access-Token: {sandbox._envd_access_token}"]
    base = sandbox.upload_url("x").split("/files")[0]
    upload = [
        "curl",
        "-sS",
        "-f",
        *headers,
        "-H",
        "Content-Type: application/octet-stream",
        "-H",
        "Expect: 100-continue",
    ]
    upload += ["-T", "-", "-X", "POST", f"{base}/files?path=curl&username=user"]
    subprocess.run(upload, input=b"0123456789" * 100_000, check=True, capture_output=True, timeout=30)
    download = ["curl", "-sS", *headers, "-r", "5-14", f"{base}/files?path=curl&username=user"]
    assert subprocess.run(download, check=True, capture_output=True, timeout=30).stdout == b"5678901234"


def _requests(sandbox: Sandbox) -> list[bytes]:
    """One complete request of every kind a client may abandon, as bytes."""
    frame = json.dumps({"process": {"cmd": "/bin/sh", "args": ["-c", "yes | head -c 3000000"]}}).encode()
    watch = json.dumps({"path": "/home/user"}).encode()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="cut"\r\n\r\n'
    stream = "application/connect+json"
    kinds = [
        (49983, "/process.Process/Start", stream, b"\0" + len(frame).to_bytes(4, "big") + frame),
        (49983, "/filesystem.Filesystem/WatchDir", stream, b"\0" + len(watch).to_bytes(4, "big") + watch),
        (49983, "/filesystem.Filesystem/ListDir", "application/json", b'{"path": "/home/user"}'),
        (49983, "/files?username=user", "multipart/form-data; boundary=b", head + bytes(5000) + b"\r\n--b--\r\n"),
        (49999, "/execute", "application/json", b'{"code": "print(1)"}'),
    ]
    return [
        f"POST {path} HTTP/1.1\r\nHost: x\r\nE2b-Sandbox-Id: {sandbox.sandbox_id}\r\nE2b-Sandbox-Port: {port}\r\n"
        f"X-Access-Token: {sandbox._envd_access_token}\r\nAuthorization: Basic dXNlcjo=\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
        for port, path, kind, body in kinds
    ]


def _runtime(sandbox: Sandbox) -> Path:
    """The /proc directory of the sandbox's runtime as the box sees it: inside, root may not look at its descriptors."""
    space = sandbox.commands.run("readlink /proc/self/ns/pid").stdout.strip()
    for name in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if name.read_text() == "runtime\n" and str((name.parent / "ns/pid").readlink()) == space:
                return name.parent
    raise AssertionError(f"no runtime in {space}")


def test_clients_that_vanish_leave_nothing(sandbox: Sandbox, box: RunningBox) -> None:
    """Clients that drop every kind of call at every stage cost the runtime no descriptor and no process."""
    descriptors = _runtime(sandbox) / "fd"
    before = len(list(descriptors.iterdir()))
    assert before > 10
    host, port = box.env["E2B_SANDBOX_URL"].removeprefix("http://").split(":")
    for request in _requests(sandbox) * 3:
        for part in range(1, 9):
            with socket.create_connection((host, int(port)), timeout=10) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close is a reset
                client.sendall(request[: len(request) * part // 8])
                if part == 8:
                    assert client.recv(100).startswith(b"HTTP/1.1 200")
    deadline = time.monotonic() + 20
    # The gateway's idle connections and one inotify instance may stay; a leak would be 24 for each kind of call.
    while sandbox.commands.list() or len(list(descriptors.iterdir())) > before + 12:
        assert time.monotonic() < deadline, [str(path.readlink()) for path in descriptors.iterdir()]


def test_a_killed_sandbox_ends_its_streams_with_the_truth(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that runs when its sandbox is killed fails at once, saying that the sandbox is gone."""
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    doomed = Sandbox.create(template="code-interpreter", timeout=60)
    handle = doomed.commands.run("sleep 600", background=True, timeout=0)
    threading.Timer(0.2, doomed.kill).start()
    with pytest.raises(e2b.SandboxException, match=r"killed|not found|not running"):
        handle.wait()  # ten minutes, if it waited for the command
    assert doomed.is_running() is False
