"""The compiling of the self-contained tree."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.image import build

CODE = (
    "import sys; from pathlib import Path; from appliance.image import tree; tree.compile_all(Path(sys.argv[1]), '/x')"
)


def test_a_build_that_has_nowhere_to_write_ends_at_once(tmp_path: Path) -> None:
    """A directory that does not exist is named before anything is collected and compiled."""
    with pytest.raises(ValueError, match=r"-o .*x\.tar: there is no directory .*missing"):
        build.command(tmp_path / "missing/x.tar", None, None, print)


def stat(pid: int) -> tuple[str, int]:
    """State letter and parent of a process; X for one that is gone."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    return "X", 0


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A process that compiles a tree with one module that cannot be read to its end: a pipe, which is its path."""
    (tmp_path / "app").mkdir()
    (tmp_path / "app/fast.py").write_text("x = 1\n")
    os.mkfifo(tmp_path / "app/slow.py")
    process = subprocess.Popen([sys.executable, "-c", CODE, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        yield process, tmp_path / "app/slow.py"
    finally:
        process.kill()
        process.wait(timeout=60)


def opened(pipe: Path, process: subprocess.Popen[bytes]) -> int:
    """The pipe's writing end, once a worker reads the other."""
    deadline = time.monotonic() + 60
    while True:
        with contextlib.suppress(OSError):
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_build_leaves_no_workers(builder: tuple[subprocess.Popen[bytes], Path]) -> None:
    """SIGKILL of the building process ends its compile workers, the busy one and those that wait for work."""
    process, pipe = builder
    writing = opened(pipe, process)
    try:
        numbers = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        workers = [number for number in numbers if stat(number)[1] == process.pid]
        assert workers
        process.kill()
        process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while left := [number for number in workers if stat(number)[0] not in "XZ"]:
            assert time.monotonic() < deadline, f"still alive: {left}"
            time.sleep(0.05)
    finally:
        os.close(writing)
