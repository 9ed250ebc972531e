"""The flight deck in a real terminal (tmux) against a real box with real claims."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boxes import ROOT, RunningBox, environment

pytestmark = pytest.mark.box


class Terminal:
    """A tmux server of its own with one window that runs the flight deck."""

    def __init__(self, *arguments: str) -> None:
        self._socket = f"deck-{uuid.uuid4().hex[:8]}"
        command = shlex.join([sys.executable, "-m", "appliance", "--role=tui", *arguments])
        self._tmux("new-session", "-d", "-x", "120", "-y", "36", "-c", str(ROOT), command)

    def _tmux(self, *words: str) -> str:
        env = {**environment(), "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}
        command = ["tmux", "-L", self._socket, "-f", os.devnull, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
        return done.stdout

    def press(self, *keys: str) -> None:
        """Send keys as tmux names them."""
        for key in keys:
            self._tmux("send-keys", key)

    def wait(self, shown: Callable[[str], bool], seconds: float = 60) -> str:
        """The screen as soon as it shows what is expected."""
        deadline = time.monotonic() + seconds
        while True:
            screen = self._tmux("capture-pane", "-p")
            if shown(screen):
                return screen
            assert time.monotonic() < deadline, screen
            time.sleep(0.1)

    def close(self) -> None:
        """End tmux and what runs in it."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True, check=False)


@pytest.fixture
def terminal(box: RunningBox) -> Iterator[Terminal]:
    """The flight deck on the session's box."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is missing: apt-get install tmux")
    made = Terminal("--data-dir", str(box.data_dir))
    yield made
    made.close()


def test_a_real_claim_is_seen_opened_shelled_into_and_killed(
    terminal: Terminal, box: RunningBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the SDK's create to the deck's kill: the row, its timeline, a shell inside, the dialog, the end."""
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    from e2b_code_interpreter import Sandbox

    terminal.wait(lambda screen: "live" in screen and "available" in screen)
    sandbox = Sandbox.create(template="code-interpreter", timeout=120)
    terminal.press("4")
    told = re.compile(r" done .* 1/1 pool .* [0-9.]+m?s ")  # without ~: its deliverer's own report has arrived
    terminal.wait(lambda screen: any(told.search(line) for line in screen.splitlines()))
    terminal.press("3")
    terminal.wait(lambda screen: "SANDBOX" in screen and "STATE" in screen)
    terminal.press("/")
    terminal.wait(lambda screen: "\n /" in screen)
    for letter in sandbox.sandbox_id:
        terminal.press(letter)
    terminal.press("Enter")
    # The prompt filters as it is typed into: only once it has closed does the next Enter mean the row.
    filtered = f"/{sandbox.sandbox_id} 1 of"
    terminal.wait(lambda screen: "running" in screen and filtered in screen and "\n /" not in screen)
    terminal.press("Enter")
    terminal.wait(lambda screen: "timeline" in screen and "claimed" in screen)
    terminal.press("m")
    terminal.wait(lambda screen: "cpu" in screen and "MiB" in screen and "processes" in screen)
    terminal.press("l")
    terminal.wait(lambda screen: "log: following" in screen)
    terminal.press("Escape")
    terminal.wait(lambda screen: "usage" in screen)
    terminal.press("s")
    terminal.wait(lambda screen: "ends with exit" in screen and ("#" in screen or "$" in screen))
    terminal.press("echo $((6*7))", "Enter")
    terminal.wait(lambda screen: "\n42" in screen)
    terminal.press("exit", "Enter")
    terminal.wait(lambda screen: "timeline" in screen and "usage" in screen)
    terminal.press("C-d")
    terminal.wait(lambda screen: "Kill sandbox" in screen)
    terminal.press("Right", "Enter")
    terminal.wait(lambda screen: "It is gone" in screen)
    assert not sandbox.is_running()


def test_once_prints_the_box_as_json(box: RunningBox) -> None:
    """A script reads pools and sandboxes of the running box without a terminal."""
    done = subprocess.run(
        [sys.executable, "-m", "appliance", "--role=tui", "--data-dir", str(box.data_dir), "--once", "json"],
        capture_output=True, text=True, check=True, cwd=ROOT, env=environment(), timeout=60,
    )  # fmt: skip
    document = json.loads(done.stdout)
    assert document["pools"][0]["name"] == "code-interpreter"
    assert {watch["state"] for watch in document["watches"]} == {"live"}


@pytest.fixture
def browsed(box: RunningBox) -> Iterator[str]:
    """The address of the deck in a browser, with its token; one visitor at a time."""
    words = ["--role=tui", "--data-dir", str(box.data_dir), "--web", "127.0.0.1:0", "--web-sessions", "1"]
    command = [sys.executable, "-m", "appliance", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment()) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("flight deck: ").strip()
        process.terminate()
        assert process.wait(timeout=30) == 0
        assert process.stdout.read() == "", "the address is all that is printed"


def test_the_same_deck_in_a_browser(browsed: str, tmp_path: Path) -> None:
    """Headless Chromium: refused without the token, live with it, keys work, one visitor too many is refused."""
    modules = os.environ.get("APPLIANCE_TEST_JS")
    if modules is None:
        pytest.skip("APPLIANCE_TEST_JS is unset; packaging/test.sh installs the npm packages of tests/e2e/js")
    if shutil.which("chromium") is None:
        pytest.skip("chromium is missing: apt-get install chromium")
    (tmp_path / "node_modules").symlink_to(Path(modules) / "node_modules")
    script = shutil.copy(Path(__file__).parent / "js" / "deck.mjs", tmp_path)
    done = subprocess.run(["node", script, browsed], capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr
