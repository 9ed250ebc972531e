"""The process service over the wire."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import signal

import pytest

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="running programs as another user needs root: run as root")


@pytest.fixture
def changes():
    return {"retention": 0.5, "signal_drain": 0.05, "system_env": {"E2B_SANDBOX": "true"}}


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def selector(pid: int) -> dict:
    return {"process": {"pid": pid}}


async def test_start_data_end(envd):
    """A command's stream is start, its output, exactly one end, in this order, with Go's exit words."""
    done = await envd.run("/bin/sh", "-c", "echo out; echo err >&2; exit 3")
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")
    assert done.end == {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}


async def test_clean_exit_omits_the_code(envd):
    """Exit 0 has no exitCode and no error, as proto JSON defaults demand."""
    done = await envd.run("/bin/true")
    assert done.end == {"exited": True, "status": "exit status 0"}


async def test_missing_program_is_exit_127(envd):
    """A command that does not exist is no RPC error: a start, a message on stderr, exit 127."""
    done = await envd.run("no-such-program-anywhere")
    assert done.end["exitCode"] == 127
    assert b"no-such-program-anywhere" in done.stderr


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
async def test_a_spent_sandbox_is_no_bad_request(envd, monkeypatch, number):
    """No process or memory left for a command is resource_exhausted, not a fault of the request; a terminal alike."""

    def refused(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_spawn", refused)
    for terminal in ({}, {"pty": {"size": {"cols": 80, "rows": 24}}}):
        with pytest.raises(envd.StreamError) as caught:
            await envd.run("/bin/true", **terminal)
        assert (caught.value.code, os.strerror(number) in caught.value.message) == ("resource_exhausted", True)


async def test_script_without_interpreter_line_runs(envd):
    """An executable text file without #! is run by the shell, as execvp does."""
    script = envd.home / "script"
    script.write_text("echo ran $1\n")
    script.chmod(0o755)
    assert (await envd.run(str(script), "well")).stdout == b"ran well\n"


@needs_root
async def test_credentials_groups_and_oom_score(envd):
    """The process has the user's uid, gid, supplementary groups, no way back to root, and a raised OOM score."""
    script = "grep -E '^(Uid|Gid|Groups|CapEff|CapPrm)' /proc/self/status; cat /proc/self/oom_score_adj"
    out = (await envd.run("/bin/sh", "-c", script)).stdout.decode().splitlines()
    assert out[0].split() == ["Uid:", *[str(envd.uid)] * 4]
    assert out[1].split() == ["Gid:", *[str(envd.gid)] * 4]
    assert sorted(out[2].split()[1:]) == sorted([str(envd.gid), "44"])
    assert {line.split()[1].strip("0") for line in out[3:5]} == {""}
    assert int(out[5]) >= 100
    assert os.getresuid() == (0, 0, 0)


@needs_root
async def test_runs_as_the_user_of_basic_auth(envd):
    """Basic auth selects the user; an unknown one is unauthenticated."""
    root = {"authorization": "Basic " + b64(b"root:")}
    assert (await envd.run("/usr/bin/id", "-u", headers=root)).stdout == b"0\n"
    with pytest.raises(envd.StreamError) as caught:
        await envd.run("/bin/true", headers={"authorization": "Basic " + b64(b"nobody-here:")})
    assert (caught.value.code, caught.value.message) == ("unauthenticated", "invalid username: 'nobody-here'")


async def test_environment_is_scoped(envd):
    """PATH, the user's variables, then global ones, then the request's; nothing of the server's own environment."""
    envd.state.user_env = {"GLOBAL": "1", "BOTH": "global"}
    out = (await envd.run("/usr/bin/env", envs={"MINE": "2", "BOTH": "mine"})).stdout.decode().splitlines()
    assert sorted(out) == sorted(
        [
            f"PATH={envd.settings.path}",
            f"HOME={envd.home}",
            "USER=user",
            "LOGNAME=user",
            "E2B_SANDBOX=true",
            "GLOBAL=1",
            "BOTH=mine",
            "MINE=2",
        ]
    )
    again = (await envd.run("/usr/bin/env")).stdout
    assert b"MINE" not in again


async def test_working_directory(envd):
    """Relative directories start at the home; a missing one is invalid_argument with the contract's text."""
    (envd.home / "sub").mkdir()
    assert (await envd.run("/bin/pwd", cwd="sub")).stdout == f"{envd.home}/sub\n".encode()
    assert (await envd.run("/bin/pwd")).stdout == f"{envd.home}\n".encode()
    with pytest.raises(envd.StreamError) as caught:
        await envd.run("/bin/pwd", cwd="/does/not/exist")
    assert (caught.value.code, caught.value.message) == ("invalid_argument", "cwd '/does/not/exist' does not exist")


@needs_root
async def test_directory_of_somebody_else(envd):
    """A directory that the user may not enter is invalid_argument, although the runtime could enter it."""
    closed = envd.home / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(envd.StreamError) as caught:
        await envd.run("/bin/pwd", cwd=str(closed))
    assert caught.value.code == "invalid_argument"
    assert "Permission denied" in caught.value.message


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "process.cmd"),
        ({"process": {"cmd": "x", "args": [1]}}, "process.args[0]"),
        ({"process": {"cmd": "x", "envs": {"A=B": "c"}}}, "process.envs"),
        ({"process": {"cmd": "x"}, "pty": {"size": {"cols": -1}}}, "pty.size.cols"),
        ({"process": {"cmd": "a\0b"}}, "process.cmd"),
    ],
)
async def test_bad_requests_name_the_field(envd, body, named):
    """Every malformed field is invalid_argument and named."""
    with pytest.raises(envd.StreamError) as caught:
        await (await envd.open("process.Process/Start", body)).rest()
    assert caught.value.code == "invalid_argument"
    assert named in caught.value.message


async def test_stdin_and_close(envd):
    """Input reaches the process in order; closing twice is fine; input after closing is internal."""
    stream = await envd.start("/bin/cat")
    pid = (await stream.next())["start"]["pid"]
    for part in (b"one ", b"two"):
        answer = await envd.rpc("process.Process/SendInput", {**selector(pid), "input": {"stdin": b64(part)}})
        assert answer.status_code == 200
    assert (await stream.next())["data"]
    for _ in range(2):
        assert (await envd.rpc("process.Process/CloseStdin", selector(pid))).status_code in (200, 404)
    rest = await stream.rest()
    assert "end" in rest[-1]["event"]


async def test_stdin_off_reads_nothing(envd):
    """Without stdin the process sees an immediate end of input, and SendInput is refused as internal."""
    assert (await envd.run("/bin/cat", stdin=False)).end["status"] == "exit status 0"
    stream = await envd.start("/bin/sleep", "60", stdin=False)
    pid = (await stream.next())["start"]["pid"]
    answer = await envd.rpc("process.Process/SendInput", {**selector(pid), "input": {"stdin": b64(b"x")}})
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    await kill(envd, pid)
    await stream.rest()


async def kill(envd, pid: int, name: str = "SIGNAL_SIGKILL"):
    answer = await envd.rpc("process.Process/SendSignal", {**selector(pid), "signal": name})
    assert answer.status_code == 200, answer.text


async def test_large_input_waits_for_the_process(envd):
    """More input than a pipe holds arrives whole; the call answers when all of it has been taken."""
    stream = await envd.start("/bin/sh", "-c", "wc -c")
    pid = (await stream.next())["start"]["pid"]
    body = {**selector(pid), "input": {"stdin": b64(b"x" * 1_000_000)}}
    assert (await envd.rpc("process.Process/SendInput", body)).status_code == 200
    await envd.rpc("process.Process/CloseStdin", selector(pid))
    assert envd.collect([{"event": {"start": {"pid": pid}}}, *await stream.rest()]).stdout.strip() == b"1000000"


async def test_input_to_a_full_pipe_respects_its_deadline(envd):
    """A process that never reads does not hang SendInput beyond Connect-Timeout-Ms."""
    stream = await envd.start("/bin/sleep", "60")
    pid = (await stream.next())["start"]["pid"]
    body = {**selector(pid), "input": {"stdin": b64(b"x" * 1_000_000)}}
    answer = await envd.rpc("process.Process/SendInput", body, connect_timeout_ms="100")
    assert (answer.status_code, answer.json()["code"]) == (504, "deadline_exceeded")
    await kill(envd, pid)
    await stream.rest()


async def test_stream_input(envd):
    """A client stream of start, data and keepalive frames is written in order."""
    stream = await envd.start("/usr/bin/head", "-c", "6")
    pid = (await stream.next())["start"]["pid"]
    messages = [
        {"start": selector(pid)},
        {"data": {"input": {"stdin": b64(b"abc")}}},
        {"keepalive": {}},
        {"data": {"input": {"stdin": b64(b"def")}}},
    ]
    body = b"".join(envd.frame(message) for message in messages)
    headers = {"content-type": "application/connect+json"}
    answer = await envd.http.post("/process.Process/StreamInput", content=body, headers=headers)
    assert answer.content == b"\0\0\0\0\x02{}" + b"\x02\0\0\0\x02{}"
    assert envd.collect([{"event": {"start": {"pid": pid}}}, *await stream.rest()]).stdout == b"abcdef"


async def test_kill_is_told_in_go_words(envd):
    """SIGKILL ends the stream with exit code -1, no exited, and the reference's status text."""
    stream = await envd.start("/bin/sleep", "60")
    pid = (await stream.next())["start"]["pid"]
    await kill(envd, pid)
    end = (await stream.rest())[-1]["event"]["end"]
    assert end == {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}


async def test_output_after_sigterm_is_not_lost(envd):
    """A trap's last words come before the end, every time."""
    for _ in range(10):
        stream = await envd.start(
            "/bin/sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.01; done"
        )
        start = {"event": await stream.next()}
        assert "data" in await stream.next()
        await kill(envd, start["event"]["start"]["pid"], "SIGNAL_SIGTERM")
        done = envd.collect([start, *await stream.rest()])
        assert (done.stdout, done.end["exitCode"]) == (b"bye\n", 7)


async def test_killed_shell_with_a_child_on_its_pipe_ends(envd):
    """After a kill a grandchild that holds the pipes delays the end by the drain time only."""
    stream = await envd.start("/bin/sh", "-c", "sleep 30 & echo $!; wait")
    pid = (await stream.next())["start"]["pid"]
    child = int(base64.b64decode((await stream.next())["data"]["stdout"]))
    await kill(envd, pid)
    async with asyncio.timeout(5):
        assert "end" in (await stream.rest())[-1]["event"]
    os.kill(child, signal.SIGKILL)


async def test_only_two_signals(envd):
    """Other signals are unimplemented; an unknown pid is not_found with the contract's text."""
    stream = await envd.start("/bin/sleep", "60")
    pid = (await stream.next())["start"]["pid"]
    answer = await envd.rpc("process.Process/SendSignal", {**selector(pid), "signal": 0})
    assert (answer.status_code, answer.json()["code"]) == (501, "unimplemented")
    await kill(envd, pid)
    await stream.rest()
    answer = await envd.rpc("process.Process/SendSignal", {**selector(2**31), "signal": "SIGNAL_SIGKILL"})
    assert answer.json() == {"code": "not_found", "message": f"process with pid {2**31} not found"}


async def test_deadline_kills_and_ends(envd):
    """At Connect-Timeout-Ms the process is killed and the stream ends with deadline_exceeded, grandchildren or not."""
    stream = await envd.start("/bin/sh", "-c", "sleep 30 & echo $!; wait", headers={"connect_timeout_ms": "200"})
    pid = (await stream.next())["start"]["pid"]
    child = int(base64.b64decode((await stream.next())["data"]["stdout"]))
    with pytest.raises(envd.StreamError) as caught:
        await stream.rest()
    assert (caught.value.code, caught.value.message) == ("deadline_exceeded", "context deadline exceeded")
    assert not os.path.exists(f"/proc/{pid}/exe") or os.readlink(f"/proc/{pid}/exe")
    os.kill(child, signal.SIGKILL)


async def test_disconnect_leaves_the_process(envd):
    """A client that goes away does not end the process; Connect finds it, with new output and its end."""
    first = await envd.start("/bin/cat")
    pid = (await first.next())["start"]["pid"]
    await first.close()
    second = await envd.open("process.Process/Connect", selector(pid))
    assert (await second.next())["start"]["pid"] == pid
    await envd.rpc("process.Process/SendInput", {**selector(pid), "input": {"stdin": b64(b"again")}})
    assert base64.b64decode((await second.next())["data"]["stdout"]) == b"again"
    await envd.rpc("process.Process/CloseStdin", selector(pid))
    assert "end" in (await second.rest())[-1]["event"]


async def test_late_connect_gets_the_end_until_forgotten(envd):
    """An ended process answers Connect with start and end for the retention time, then not_found."""
    done = await envd.run("/bin/sh", "-c", "exit 5")
    late = envd.collect(await (await envd.open("process.Process/Connect", selector(done.pid))).rest())
    assert late.end == done.end
    async with asyncio.timeout(10):
        while True:
            try:
                await (await envd.open("process.Process/Connect", selector(done.pid))).rest()
            except envd.StreamError as error:
                assert error.code == "not_found"
                return


async def test_selection_by_tag_among_many(envd):
    """Every one of several tagged processes is found by its tag (the reference finds one of four)."""
    streams = [await envd.start("/bin/sleep", "60", tag=f"t{n}") for n in range(4)]
    pids = [(await stream.next())["start"]["pid"] for stream in streams]
    listed = (await envd.rpc("process.Process/List", {})).json()["processes"]
    assert {(p["tag"], p["pid"]) for p in listed} == {(f"t{n}", pid) for n, pid in enumerate(pids)}
    for n, stream in enumerate(streams):
        body = {"process": {"tag": f"t{n}"}, "signal": "SIGNAL_SIGKILL"}
        assert (await envd.rpc("process.Process/SendSignal", body)).status_code == 200
        await stream.rest()
    assert (await envd.rpc("process.Process/List", {})).json() == {}


async def test_every_listener_gets_everything(envd):
    """Ten megabytes to two listeners arrive complete at both."""
    gate = envd.home / "gate"
    os.mkfifo(gate, 0o666)
    gate.chmod(0o666)
    first = await envd.start("/bin/sh", "-c", f"read x < {gate}; head -c 10000000 /dev/zero")
    pid = (await first.next())["start"]["pid"]
    second = await envd.open("process.Process/Connect", selector(pid))
    await second.next()
    await asyncio.to_thread(gate.write_text, "go\n")
    for messages in await asyncio.gather(first.rest(), second.rest()):
        data = [m["event"]["data"]["stdout"] for m in messages if "data" in m["event"]]
        assert sum(len(base64.b64decode(piece)) for piece in data) == 10_000_000


async def test_output_without_listener_does_not_block(envd):
    """A process whose listener left may write more than any buffer holds and still ends."""
    marker = envd.home / "done"
    stream = await envd.start("/bin/sh", "-c", f"head -c 3000000 /dev/zero; touch {marker}")
    await stream.next()
    await stream.close()
    async with asyncio.timeout(10):
        while not marker.exists():
            await envd.rpc("process.Process/List", {})


async def test_keepalive(envd):
    """A quiet stream carries keepalive events at the interval the client asks for."""
    stream = await envd.start("/bin/sleep", "60", headers={"keepalive_ping_interval": "1"})
    pid = (await stream.next())["start"]["pid"]
    assert await stream.next() == {"keepalive": {}}
    await kill(envd, pid)
    await stream.rest()


async def test_many_short_commands_all_end(envd):
    """A hundred commands at once each get start and end; nothing is left listed."""
    done = await asyncio.gather(*(envd.run("/bin/echo", str(n)) for n in range(100)))
    assert [d.stdout for d in done] == [f"{n}\n".encode() for n in range(100)]
    assert (await envd.rpc("process.Process/List", {})).json() == {}


async def test_descriptors_return(envd):
    """After commands of every kind no descriptor is left open."""
    await envd.run("/bin/true")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await envd.run("/bin/echo", "x")
        await envd.run("/bin/echo", "x", pty={"size": {"cols": 80, "rows": 24}})
        with pytest.raises(envd.StreamError):
            await envd.run("/bin/echo", cwd="/nowhere")
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_pty(envd):
    """A PTY has its size, is the controlling terminal, takes input, resizes, and refuses CloseStdin with a hint."""
    size = {"size": {"cols": 80, "rows": 24}}
    stream = await envd.start("/bin/sh", "-c", "stty size; tty >/dev/tty; read x; stty size; exit 4", pty=size)
    pid = (await stream.next())["start"]["pid"]
    seen = b""
    while seen.count(b"\n") < 2:
        seen += base64.b64decode((await stream.next())["data"]["pty"])
    assert seen.startswith(b"24 80\r\n/dev/pts/")
    answer = await envd.rpc("process.Process/CloseStdin", selector(pid))
    assert (answer.status_code, answer.json()["code"]) == (500, "unknown")
    assert (
        await envd.rpc("process.Process/Update", {**selector(pid), "pty": {"size": {"cols": 100, "rows": 50}}})
    ).is_success
    await envd.rpc("process.Process/SendInput", {**selector(pid), "input": {"pty": b64(b"x\n")}})
    done = envd.collect([{"event": {"start": {"pid": pid}}}, *await stream.rest()])
    assert done.pty.endswith(b"50 100\r\n")
    assert done.end["exitCode"] == 4


async def test_update_of_a_plain_process(envd):
    """Resizing something without a terminal is internal."""
    stream = await envd.start("/bin/sleep", "60")
    pid = (await stream.next())["start"]["pid"]
    answer = await envd.rpc("process.Process/Update", {**selector(pid), "pty": {"size": {"cols": 1, "rows": 1}}})
    assert answer.json()["code"] == "internal"
    await kill(envd, pid)
    await stream.rest()
