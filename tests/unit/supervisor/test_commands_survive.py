"""Commands of clients when the server process is killed: the next one goes on with them."""

from __future__ import annotations

import base64
import contextlib
import getpass
import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.timeout(90)
STATUS = {"process": {"cmd": "grep", "args": ["SigIgn", "/proc/self/status"]}}


class Envd:
    """A plain client of a sandbox's envd."""

    def __init__(self, sandbox: Any) -> None:
        self.sandbox = sandbox
        url, user = f"http://127.0.0.1:{sandbox.envd_port}", (getpass.getuser(), "")
        self._http = httpx.Client(base_url=url, auth=user, timeout=30, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def call(self, method: str, **message: Any) -> dict[str, Any]:
        """A unary call that succeeds."""
        answer = self._http.post(f"/process.Process/{method}", json=message)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def events(self, method: str, message: Any, **headers: str) -> Iterator[dict[str, Any]]:
        """The events of a stream; it just ends when the server dies."""
        data = json.dumps(message).encode()
        content = b"\0" + len(data).to_bytes(4, "big") + data
        headers = {"content-type": "application/connect+json", **headers}
        with self._http.stream("POST", f"/process.Process/{method}", content=content, headers=headers) as response:
            buffer = b""
            for piece in response.iter_raw():
                buffer += piece
                while len(buffer) >= 5 and len(buffer) >= (end := 5 + int.from_bytes(buffer[1:5], "big")):
                    if not buffer[0] & 2:
                        yield json.loads(buffer[5:end])["event"]
                    buffer = buffer[end:]

    def start(self, *argv: str, timeout_ms: int = 0, **more: Any) -> int:
        """Start a command, leave its stream, and wait until the supervisor holds it; its pid."""
        held = self.held()
        message = {"process": {"cmd": argv[0], "args": argv[1:]}, **more}
        events = self.events("Start", message, **{"connect-timeout-ms": str(timeout_ms)})
        pid = int(next(events)["start"]["pid"])
        events.close()
        wait(lambda: self.held() == held + 1)
        return pid

    def held(self) -> int:
        """How many commands the supervisor holds: each has one pidfd."""
        directory = f"/proc/{self.sandbox.process.pid}/fd"
        count = 0
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):  # closed since it was listed
                count += os.readlink(f"{directory}/{name}") == "anon_inode:[pidfd]"
        return count

    def kill_server(self, *others: int) -> None:
        """kill -9 of the server, then of commands, and wait for the next server."""
        for pid in (self.sandbox.children[0], *others):
            os.kill(pid, signal.SIGKILL)
        self.sandbox.wait_warm()


def wait(condition: Any) -> None:
    """Poll, bounded."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass within 30 s"
        time.sleep(0.01)


def data(event: dict[str, Any], name: str) -> bytes:
    """The output in a data event."""
    return base64.b64decode(event["data"][name])


@pytest.fixture(scope="module")
def envd(shared: Any) -> Iterator[Envd]:
    """One sandbox; every test leaves nothing running in it."""
    client = Envd(shared)
    yield client
    client.close()


def test_a_command_goes_on_under_the_next_server(envd: Envd) -> None:
    """After kill -9 of the server a command is listed with its tag and configuration, takes input, gives output, sees
    the end of its input and reports its exit code; then nothing of it is held.
    """
    script = "while read line; do echo got $line; done; echo bye >&2; exit 7"
    pid = envd.start("/bin/sh", "-c", script, tag="kept")
    envd.kill_server()
    (listed,) = envd.call("List")["processes"]
    assert (listed["pid"], listed["tag"], listed["config"]["args"]) == (pid, "kept", ["-c", script])
    events = envd.events("Connect", {"process": {"tag": "kept"}})
    assert next(events) == {"start": {"pid": pid}}
    envd.call("SendInput", process={"pid": pid}, input={"stdin": base64.b64encode(b"a\n").decode()})
    assert data(next(events), "stdout") == b"got a\n"
    envd.kill_server()  # a second time, and now its stream dies with the server
    events.close()
    events = envd.events("Connect", {"process": {"pid": pid}})
    next(events)
    envd.call("CloseStdin", process={"pid": pid})
    assert data(next(events), "stderr") == b"bye\n"
    assert next(events)["end"] == {"exitCode": 7, "exited": True, "status": "exit status 7", "error": "exit status 7"}
    wait(lambda: envd.held() == 0)


def test_a_terminal_goes_on(envd: Envd) -> None:
    """A terminal is echoed, resized and killed by the next server."""
    pid = envd.start("/bin/cat", pty={"size": {"cols": 80, "rows": 24}})
    envd.kill_server()
    events = envd.events("Connect", {"process": {"pid": pid}})
    next(events)
    envd.call("SendInput", process={"pid": pid}, input={"pty": base64.b64encode(b"x").decode()})
    assert data(next(events), "pty") == b"x"
    envd.call("Update", process={"pid": pid}, pty={"size": {"cols": 100, "rows": 30}})
    envd.call("SendSignal", process={"pid": pid}, signal="SIGNAL_SIGKILL")
    assert next(event for event in events if "end" in event)["end"]["status"] == "signal: killed"
    wait(lambda: envd.held() == 0)


def test_deadlines_hold_and_ends_between_servers_are_told(envd: Envd) -> None:
    """A command's deadline is kept by the next server, and one that died together with its server is reported as
    it ended.
    """
    sleeper = envd.start("/bin/sleep", "1000", timeout_ms=4000)
    victim = envd.start("/bin/sleep", "1000")
    envd.kill_server(victim)
    events = list(envd.events("Connect", {"process": {"pid": victim}}))
    assert events[-1]["end"]["status"] == "signal: killed"
    events = list(envd.events("Connect", {"process": {"pid": sleeper}}))
    assert events[-1]["end"]["status"] == "signal: killed"
    wait(lambda: envd.held() == 0)


def test_short_commands_are_not_handed_over(envd: Envd) -> None:
    """A command of a moment costs the supervisor nothing, and its descriptors do not pile up anywhere."""
    for _ in range(20):
        assert list(envd.events("Start", {"process": {"cmd": "/bin/true"}}))[-1]["end"]["exited"]
    assert envd.held() == 0


def test_descriptors_do_not_leak_into_commands(envd: Envd) -> None:
    """What a server inherited of other commands stays closed in those it starts."""
    kept = envd.start("/bin/cat")
    envd.kill_server()
    (_, output, _) = envd.events("Start", {"process": {"cmd": "/bin/ls", "args": ["/proc/self/fd"]}, "stdin": False})
    assert data(output, "stdout").split() == [b"0", b"1", b"2", b"3"]
    envd.call("SendSignal", process={"pid": kept}, signal="SIGNAL_SIGKILL")
    wait(lambda: envd.held() == 0)


def test_input_for_a_command_that_reads_none_is_an_error_of_the_call(envd: Envd) -> None:
    """Writing to a pipe that nobody reads is an error of that call, told to its client, and no signal that ends the
    server; commands do not inherit that.
    """
    server = envd.sandbox.children[0]
    pid = envd.start("/bin/sh", "-c", "exec 0<&-; sleep 1000", stdin=True)
    given = {"process": {"pid": pid}, "input": {"stdin": base64.b64encode(b"x").decode()}}
    wait(lambda: not os.path.exists(f"/proc/{pid}/fd/0"))
    for _ in range(2):
        answer = envd._http.post("/process.Process/SendInput", json=given)
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert envd.sandbox.children[0] == server
    ignored = next(data(event, "stdout") for event in envd.events("Start", STATUS) if "data" in event)
    assert int(ignored.split()[1], 16) & (1 << signal.SIGPIPE - 1) == 0
    envd.call("SendSignal", process={"pid": pid}, signal="SIGNAL_SIGKILL")
    wait(lambda: envd.held() == 0)
