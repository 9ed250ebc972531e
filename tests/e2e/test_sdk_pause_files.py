"""Pauses that keep files without memory, on a real box through the SDK; and that no kind of pause ever loses a file.

Contract §1.10 (memory and filesystem pause) and the complaints of §5.3: writes, renames and deletions of earlier cycles
that were gone after later ones.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from e2b import Sandbox, SandboxState

pytestmark = pytest.mark.box
TEMPLATE = "code-interpreter"
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
ROUNDS = 2
DIRECTORY = "/home/user/work"


@pytest.fixture(scope="module")
def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    env = box.env
    return {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}


def until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Ask again until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def pause_mode(sandbox: Sandbox, options: dict[str, Any]) -> str | None:
    """What the API says the pause saved."""
    url, headers = f"{options['api_url']}/sandboxes/{sandbox.sandbox_id}", {"X-API-Key": options["api_key"]}
    found: str | None = httpx.get(url, headers=headers, trust_env=False).json().get("pauseMode")
    return found


def test_files_stay_and_everything_else_is_new(options: dict[str, Any]) -> None:
    """Processes are gone, boot_id changes, the whole disk is kept; environment and token are there again; code runs."""
    with Sandbox.create(TEMPLATE, timeout=120, envs={"FOO": "bar"}, **options) as sandbox:
        token = sandbox._envd_access_token
        before = sandbox.commands.run(f"mkdir -p /tmp/t ~/d; echo 1 | sudo tee /opt/kept /usr/local/kept; {BOOT_ID}")
        running = sandbox.commands.run("sleep 600", background=True)
        sandbox.files.write("/dev/shm/memory", "lost")
        assert sandbox.pause(mode="filesystem") is True and sandbox.pause(mode="filesystem") is False
        assert pause_mode(sandbox, options) == "filesystem" and not sandbox.is_running()
        again = Sandbox.connect(sandbox.sandbox_id, timeout=120, **options)
        after = again.commands.run(f"cat /opt/kept /usr/local/kept; ls -d /tmp/t ~/d >&2; echo $FOO >&2; {BOOT_ID}")
        assert after.stdout.startswith("1\n1\n") and after.stdout.split()[-1] != before.stdout.split()[-1]
        assert after.stderr == "/home/user/d\n/tmp/t\nbar\n" and again._envd_access_token == token
        assert running.pid not in [one.pid for one in again.commands.list()]
        assert not again.files.exists("/dev/shm/memory")
        assert again.commands.run("sudo id -u; ls /proc | grep -c '^[0-9]'").stdout.startswith("0\n")
        assert again.pause() is True and pause_mode(again, options) == "full"
        assert Sandbox.connect(again.sandbox_id, timeout=60, **options).commands.run(BOOT_ID).stdout == (
            after.stdout.removeprefix("1\n1\n")
        )


def test_traffic_does_not_boot_and_a_frozen_one_can_be_booted(options: dict[str, Any]) -> None:
    """autoResume wakes a full pause only; connect without memory gives a kept memory up."""
    lifecycle: Any = {"on_timeout": "pause", "auto_resume": True}
    with Sandbox.create(TEMPLATE, timeout=120, lifecycle=lifecycle, **options) as sandbox:
        first = sandbox.commands.run(BOOT_ID).stdout
        sandbox.pause(mode="filesystem")
        routed = {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
        shown = {**routed, "X-Access-Token": str(sandbox._envd_access_token)}
        url = f"{options['sandbox_url']}/process.Process/List"
        answer = httpx.post(url, headers=shown, json={}, trust_env=False)
        assert answer.status_code == 502 and answer.json()["message"] == "The sandbox was not found"
        assert sandbox.get_info().state is SandboxState.PAUSED
        sandbox.connect(timeout=120)
        second = sandbox.commands.run(BOOT_ID).stdout
        sandbox.pause()
        answer = httpx.post(
            f"{options['api_url']}/v2/sandboxes/{sandbox.sandbox_id}/connect",
            headers={"X-API-Key": options["api_key"]},
            json={"memory": False},
            timeout=60,
            trust_env=False,
        )
        assert answer.status_code == 201
        assert len({first, second, sandbox.commands.run(BOOT_ID).stdout}) == 3


class Model:
    """A directory of a sandbox, and what must be in it."""

    def __init__(self, sandbox: Sandbox, seed: int) -> None:
        self.sandbox, self.random = sandbox, random.Random(seed)
        self.files: dict[str, str] = {}
        self.written = 0

    def change(self) -> None:
        """Write, overwrite, rename and delete a few files."""
        for _ in range(3):
            self.written += 1
            self._write(f"f{self.written}")
        self._write(self.random.choice(sorted(self.files)))
        old, new = self.random.choice(sorted(self.files)), f"r{self.written}"
        self.sandbox.files.rename(f"{DIRECTORY}/{old}", f"{DIRECTORY}/{new}")
        self.files[new] = self.files.pop(old)
        gone = self.random.choice(sorted(self.files))
        self.sandbox.files.remove(f"{DIRECTORY}/{gone}")
        del self.files[gone]

    def _write(self, name: str) -> None:
        self.files[name] = self.random.randbytes(self.random.choice((0, 10, 50_000))).hex()
        self.sandbox.files.write(f"{DIRECTORY}/{name}", self.files[name])

    def check(self) -> None:
        """Everything is there, nothing else is, and the contents are right."""
        found = {one.name: self.sandbox.files.read(one.path) for one in self.sandbox.files.list(DIRECTORY)}
        assert found == self.files


@pytest.mark.parametrize("mode", ["full", "filesystem"])
def test_no_cycle_of_any_kind_loses_anything(options: dict[str, Any], mode: str) -> None:
    """Manual with memory, manual without, by time-out with or without: every cycle's changes are in all later ones."""
    lifecycle: Any = {"on_timeout": {"action": "pause", "mode": mode}}
    with Sandbox.create(TEMPLATE, timeout=300, lifecycle=lifecycle, **options) as sandbox:
        model = Model(sandbox, seed=len(mode))

        def by_timeout() -> str:
            sandbox.set_timeout(1)
            until(lambda: sandbox.get_info().state is SandboxState.PAUSED)
            return mode

        def by_hand(kind: Any) -> str:
            assert sandbox.pause(mode=kind)
            return str(kind)

        kinds = [by_timeout, lambda: by_hand("full"), lambda: by_hand("filesystem")]
        for _ in range(ROUNDS):
            for pause in model.random.sample(kinds, len(kinds)):
                model.change()
                kept = pause()
                until(lambda kept=kept: pause_mode(sandbox, options) == kept)  # type: ignore[misc]
                sandbox.connect(timeout=300)
                model.check()


def test_many_pause_and_boot_at_once(options: dict[str, Any]) -> None:
    """Four sandboxes, each halted and booted twice beside the others, keep their own files."""

    def live(number: int) -> str:
        with Sandbox.create(TEMPLATE, timeout=120, **options) as sandbox:
            for turn in range(2):
                sandbox.files.write("/home/user/mine", f"{number}/{turn}")
                assert sandbox.pause(mode="filesystem")
                sandbox.connect(timeout=120)
            return sandbox.files.read("/home/user/mine")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(live, range(4))) == [f"{number}/1" for number in range(4)]
