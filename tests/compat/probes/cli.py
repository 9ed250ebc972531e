"""Every feature of ``@e2b/cli``, one probe each (see harness.py); the release is the program that COMPAT_CLI names."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pty
import re
import select
import subprocess
import time
import urllib.request
import uuid
from typing import Any

from harness import TEMPLATE, Absent, main, probe, until

CLI = os.environ["COMPAT_CLI"]
API = os.environ["COMPAT_API_URL"]
LIMIT = 120
"""Seconds for one run of the program, generous: its start alone takes seconds on a crowded machine."""
LIFE = 900
"""Seconds that the shared sandbox lives: longer than the driver gives the whole program."""
_ID = re.compile(r"\bi[a-z0-9]{20}\b")


def cli(*words: str, given: str | None = None) -> str:
    """What the program prints; raises with that when it fails."""
    options: dict[str, Any] = {"input": given} if given is not None else {"stdin": subprocess.DEVNULL}
    done = subprocess.run(["node", CLI, *words], capture_output=True, text=True, timeout=LIMIT, check=False, **options)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {done.stdout} {done.stderr}")
    return done.stdout


def has(*words: str, option: str = "") -> None:
    """Raise ``Absent`` unless the command (and its option) is in the program's help."""
    *group, name = words
    listed = help_of(*group)
    if re.search(rf"^  {name}\b", listed, re.MULTILINE) is None or (option and option not in help_of(*words)):
        raise Absent(name)


@functools.cache
def help_of(*words: str) -> str:
    """The help of a command or group."""
    return cli(*words, "--help")


def api(method: str, path: str, body: Any = None) -> Any:
    """A request to the control API, without the program."""
    headers = {"X-API-Key": os.environ["E2B_API_KEY"], "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(API + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        return json.loads(answer.read() or b"null")


def typed(*words: str, lines: list[str], seconds: float = LIMIT) -> str:
    """What a terminal shows when ``lines`` are typed into the program, each once the one before has been answered."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("node", ["node", CLI, *words])
    shown, end = "", time.monotonic() + seconds
    try:
        waiting = list(lines)
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                data = os.read(terminal, 4096)
            except OSError:  # the program has closed its terminal
                return shown
            shown += data.decode(errors="replace")
            if waiting and re.search(r"[$#] (\x1b\[[0-9;?]*[a-zA-Z])*$", shown):
                os.write(terminal, waiting.pop(0).encode() + b"\n")
        raise AssertionError(f"the terminal did not end: {shown[-300:]!r}")
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, 9)
        os.waitpid(pid, 0)


class Kit:
    """A sandbox that the probes share."""

    def __init__(self) -> None:
        self.own = ""
        self.mark = uuid.uuid4().hex
        """Nobody else's: other releases list, and kill by metadata, on the same box at the same time."""

    async def open(self) -> None:
        """Make it through the API: not every release can create one without a terminal."""
        body = {"templateID": TEMPLATE, "timeout": LIFE, "metadata": {"of": self.mark}}
        self.own = api("POST", "/sandboxes", body)["sandboxID"]

    async def close(self) -> None:
        """End it."""
        api("DELETE", f"/sandboxes/{self.own}")


@probe("sandbox list, by state and metadata")
async def listing(kit: Kit) -> None:
    assert kit.own in cli("sandbox", "list", "--metadata", f"of={kit.mark}", "--state", "running")
    assert kit.own not in cli("sandbox", "list", "--metadata", f"of={kit.mark}-not")


@probe("sandbox list --format json")
async def listing_json(kit: Kit) -> None:
    has("sandbox", "list", option="--format")
    assert kit.own in [one["sandboxId"] for one in json.loads(cli("sandbox", "list", "--format", "json"))]


@probe("sandbox info")
async def info(kit: Kit) -> None:
    has("sandbox", "info")
    assert TEMPLATE in cli("sandbox", "info", kit.own)


@probe("sandbox create, with its terminal")
async def create(kit: Kit) -> None:
    shown = typed("sandbox", "create", TEMPLATE, lines=["echo six$((6*7))", "exit"])
    assert "six42" in shown, shown[-300:]


@probe("sandbox create --detach")
async def detached(kit: Kit) -> None:
    has("sandbox", "create", option="--detach")
    made = _ID.search(cli("sandbox", "create", TEMPLATE, "--detach"))
    assert made is not None
    assert made[0] in cli("sandbox", "kill", made[0])


@probe("sandbox connect, its terminal")
async def connect(kit: Kit) -> None:
    shown = typed("sandbox", "connect", kit.own, lines=["echo six$((6*7))", "exit"])
    # A terminal that is open for five seconds sets its sandbox's end to 30 s from then; others need it longer.
    api("POST", f"/sandboxes/{kit.own}/timeout", {"timeout": LIFE})
    assert "six42" in shown, shown[-300:]


@probe("sandbox exec: output, exit code, options")
async def execute(kit: Kit) -> None:
    has("sandbox", "exec")
    assert cli("sandbox", "exec", "--cwd", "/tmp", "--env", "A=b", kit.own, "echo $A; pwd").split() == ["b", "/tmp"]
    done = subprocess.run(["node", CLI, "sandbox", "exec", kit.own, "exit 7"], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=LIMIT, check=False)  # fmt: skip
    assert done.returncode == 7, done


@probe("sandbox exec with piped input")
async def piped(kit: Kit) -> None:
    has("sandbox", "exec")
    assert "from a pipe" in cli("sandbox", "exec", kit.own, "cat", given="from a pipe")


@probe("sandbox logs")
async def logs(kit: Kit) -> None:
    assert "Sandbox created" in cli("sandbox", "logs", kit.own)
    lines = cli("sandbox", "logs", kit.own, "--format", "json").splitlines()
    assert any("Sandbox created" in line for line in lines)


@probe("sandbox metrics")
async def metrics(kit: Kit) -> None:
    await until(lambda: "CPU" in cli("sandbox", "metrics", kit.own))


@probe("sandbox pause, resume")
async def pausing(kit: Kit) -> None:
    has("sandbox", "pause")
    cli("sandbox", "pause", kit.own)
    assert kit.own in cli("sandbox", "list", "--state", "paused")
    cli("sandbox", "resume", kit.own)
    assert kit.own in cli("sandbox", "list", "--state", "running")


@probe("sandbox kill, one and by metadata")
async def kill(kit: Kit) -> None:
    body = {"templateID": TEMPLATE, "timeout": LIFE, "metadata": {"end": kit.mark}}
    made = [api("POST", "/sandboxes", body)["sandboxID"] for _ in range(2)]
    assert made[0] in cli("sandbox", "kill", made[0])
    if "--metadata" in help_of("sandbox", "kill"):
        cli("sandbox", "kill", "--all", "--metadata", f"end={kit.mark}")
        assert made[1] not in cli("sandbox", "list")


@probe("template list")
async def templates(kit: Kit) -> None:
    assert TEMPLATE in cli("template", "list")


@probe("template create (a build)")
async def build(kit: Kit) -> None:
    has("template", "create")
    folder = os.environ["HOME"]
    with open(f"{folder}/e2b.Dockerfile", "w") as file:
        file.write("FROM debian:12\n")
    cli("template", "create", "compat-cli", "--path", folder)


@probe("sandbox snapshot")
async def snapshot(kit: Kit) -> None:
    has("sandbox", "snapshot")
    cli("sandbox", "snapshot", "create", kit.own)


if __name__ == "__main__":
    main({"cli": Kit})
