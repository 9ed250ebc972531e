"""A box without privileges: refused with the way out, and run as plain processes when asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boxes import RunningBox, environment
from e2b.exceptions import SandboxException
from e2b_code_interpreter import Sandbox
from waiting import eventually

pytestmark = pytest.mark.box


NO_PRIVILEGES = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


def test_without_privileges_the_box_says_what_is_missing(machine: None, tmp_path: Path) -> None:
    """Nothing is started or made; the message names the capabilities and --isolation=process."""
    command = [*NO_PRIVILEGES, sys.executable, "-m", "appliance", "--role=all", "--data-dir", str(tmp_path / "box")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert "CAP_SYS_ADMIN (run as root)" in done.stderr
    assert "--isolation=process" in done.stderr
    assert not (tmp_path / "box").exists()


def test_plain_processes_do_everything_but_isolate(
    start_box: Callable[..., RunningBox], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, files, code, pause with memory, two homes; network rules are refused; a kill ends it all."""
    box = start_box(pool=2, extra=("--isolation=process",))
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    with Sandbox.create(template="code-interpreter", timeout=120) as one, Sandbox.create(
        template="code-interpreter", timeout=120
    ) as other:  # fmt: skip
        with pytest.raises(SandboxException, match=r"400.*no node of this cluster enforces.*isolation=process"):
            Sandbox.create(template="code-interpreter", allow_internet_access=False)
        with pytest.raises(SandboxException, match=r"400.*no node of this cluster enforces.*isolation=process"):
            one.update_network({"deny_out": ["203.0.113.0/24"]})
        with pytest.raises(SandboxException, match="no node of this cluster enforces"):
            one.update_network({"rules": {"a.test": [{"transform": {"headers": {"X": "y"}}}]}})
        assert not one.get_info().network
        one.update_network({})
        home = one.commands.run("pwd").stdout.strip()
        assert home.startswith(str(box.data_dir))
        assert other.commands.run("pwd").stdout.strip() != home
        one.files.write("note", "mine")
        assert one.commands.run("cat note").stdout == "mine"
        assert one.run_code("import os; a = 41; os.getcwd()").text == home
        child = one.commands.run("sleep 600 >/dev/null 2>&1 & echo $!").stdout.strip()
        one.beta_pause()
        assert Path(f"/proc/{child}/stat").read_text().split()[2] == "T"
        assert other.commands.run("echo awake").stdout == "awake\n"
        one.connect()
        assert one.run_code("a + 1").text == "42"
        assert Path(f"/proc/{child}/stat").read_text().split()[2] == "S"
        one.beta_pause()
        one.kill()
        eventually(lambda: not Path(f"/proc/{child}").exists())
    assert box.stop() == 0
    assert (
        str(box.data_dir)
        not in subprocess.run(["ps", "axwwo", "args"], capture_output=True, text=True, check=False).stdout
    )
