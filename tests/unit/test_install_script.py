"""``packaging/lib.sh``: one process at a time installs into a directory, and nobody holds its lock afterwards."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "packaging" / "lib.sh"
_INSTALLER = """#!/bin/sh
# Stands for pip and npm: says that it began, does not end before it is told to.
echo began >>"$INSTALLS"
echo >"$BEGAN"
read -r _ <"$GO"
"""
_PYTHON = f"""#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin" && cp "$INSTALLER" "$3/bin/python" ;;
*) exec {sys.executable} "$@" ;;
esac
"""


class Checkout:
    """A checkout's directory in which the installers wait for the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.installs = directory / "installs"
        self.environment = {**os.environ, "PYTHON": str(directory / "python"), "INSTALLER": str(directory / "npm")}
        self.environment |= {name.upper(): str(directory / name) for name in ("installs", "began", "go")}
        self.environment["PATH"] = f"{directory}:{os.environ['PATH']}"
        for name, text in (("python", _PYTHON), ("npm", _INSTALLER), ("node", "#!/bin/sh\necho v20\n")):
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        for name in ("package.json", "package-lock.json"):
            (directory / name).write_text("{}")
        for name in ("began", "go"):
            os.mkfifo(directory / name)

    def start(self, call: str) -> subprocess.Popen[str]:
        """One script that installs, then becomes a program that lives until its standard input ends."""
        script = f". {LIBRARY}; {call}; echo installed; exec cat"
        return subprocess.Popen(
            ["bash", "-euc", script],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def began(self) -> None:
        """Wait until an installer runs."""
        (self.directory / "began").read_text()

    def go(self) -> None:
        """Let the running installer end."""
        (self.directory / "go").write_text("\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """An empty one."""
    return Checkout(tmp_path)


def _line(stream: object) -> str:
    assert hasattr(stream, "readline")
    return str(stream.readline()).strip()


def _end(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        process.communicate(timeout=60)


CALLS = pytest.mark.parametrize("call", ["locked_venv environment package.json", "locked_npm environment ."])


@CALLS
def test_two_at_once_install_once(call: str, checkout: Checkout) -> None:
    """The second waits, says so and takes what the first made; what they start then holds no lock."""
    first = checkout.start(call)
    checkout.began()
    second = checkout.start(call)
    assert "waiting for another process" in _line(second.stderr)
    checkout.go()
    assert (_line(first.stdout), _line(second.stdout)) == ("installed", "installed")
    assert checkout.installs.read_text() == "began\n"
    with Path(checkout.directory, "environment.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # both programs still run
    _end(first, second)
    assert (first.returncode, second.returncode) == (0, 0)


@CALLS
def test_an_installation_whose_script_was_killed_is_waited_for(call: str, checkout: Checkout) -> None:
    """It still writes into the directory: the next one waits for its end instead of removing what it installs."""
    first = checkout.start(call)
    checkout.began()
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    second = checkout.start(call)
    assert "waiting for another process" in _line(second.stderr)
    checkout.go()
    assert _line(second.stdout) == "installed"
    assert checkout.installs.read_text() == "began\n"
    _end(first, second)
