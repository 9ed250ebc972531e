"""The supervisor with a real server and a real kernel: what survives what."""

from __future__ import annotations

import os
import signal
from typing import Any


def test_variables_survive_the_server(sandbox: Any) -> None:
    """After kill -9 of the server process the next one has the same kernel, and answers."""
    assert sandbox.text("x = 41; x") == "41"
    before = sandbox.call("GET", "/contexts")[1]
    os.kill(sandbox.children[0], signal.SIGKILL)
    sandbox.wait_warm()
    assert sandbox.text("x + 1") == "42"
    assert sandbox.call("GET", "/contexts")[1] == before


def test_a_dead_kernel_is_told_and_replaced(sandbox: Any) -> None:
    """The cell whose kernel dies ends with an error that says how; the next cell works on a fresh kernel."""
    events = sandbox.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert events[-1]["name"] == "UnexpectedEndOfExecution"
    assert "SIGKILL" in events[-1]["value"]
    assert sandbox.text("1 + 1") == "2"


def test_sigterm_ends_everything(sandbox: Any) -> None:
    """SIGTERM leaves no child and exits 0."""
    children = sandbox.children
    assert len(children) >= 2
    sandbox.process.send_signal(signal.SIGTERM)
    assert sandbox.process.wait(10) == 0
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]


def test_the_main_commands_code_is_the_exit_code(sandbox_class: Any) -> None:
    """The sandbox ends with its main command, and with its status."""
    made = sandbox_class(main=["sh", "-c", "exit 7"])
    assert made.process.wait(20) == 7


def test_a_missing_main_command_is_127(sandbox_class: Any) -> None:
    """A program that does not exist is reported the way a shell does."""
    made = sandbox_class(main=["/no/such/program"])
    assert made.process.wait(20) == 127


def test_orphans_are_reaped(sandbox: Any) -> None:
    """A process whose parent is gone is adopted and does not stay as a zombie."""
    script = "(sleep 0.1; exit 3) >/dev/null & echo $!"
    pid = sandbox.text(f"import subprocess; subprocess.check_output({script!r}, shell=True, text=True).strip()")
    for _ in range(1000):
        if not os.path.exists(f"/proc/{pid}"):
            return
        sandbox.call("GET", "/health")
    raise AssertionError("the orphan is still there")
