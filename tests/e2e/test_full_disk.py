"""The box's own disk full: said in words, nothing lost, not even to kill -9 meanwhile; all well once there is room."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boxes import RunningBox, run_appliance
from e2b import SandboxException
from e2b_code_interpreter import Sandbox

pytestmark = [pytest.mark.box, pytest.mark.timeout(180)]


@pytest.fixture
def small_disk(machine: None, tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def box(small_disk: Path, start_box: Callable[..., RunningBox], monkeypatch: pytest.MonkeyPatch) -> RunningBox:
    """A box on that file system, which the SDK of this process uses."""
    box = start_box(small_disk / "box", pool=2)
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    return box


def fill(place: Path) -> list[Path]:
    """Use every block there is; the files to remove again."""
    files = [place / "large", place / "small"]
    for path, size in zip(files, (1 << 20, 512), strict=True):
        with path.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
    return files


def killed_and_back(box: RunningBox, role: str) -> None:
    """kill -9 of a role, and its successor is there."""
    pid = box.role_pid(role)
    os.kill(pid, signal.SIGKILL)
    box.role_pid(role, other_than=pid)


def made(deadline: float) -> Sandbox:
    """A sandbox, as soon as the box makes one again."""
    while True:
        try:
            return Sandbox.create(template="code-interpreter", timeout=60, request_timeout=10)
        except Exception:  # whatever it is, it has to end
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_full_disk_loses_nothing(box: RunningBox, small_disk: Path) -> None:
    """Writes are refused with the reason, claimed sandboxes go on, roles may die, and space heals everything."""
    kept = Sandbox.create(template="code-interpreter", timeout=600)
    kept.run_code("a = 40")
    files = fill(small_disk)
    with pytest.raises(SandboxException, match=r"507: .*no room left on its disk"):
        kept.set_timeout(500)
    assert kept.run_code("a + 1").text == "41"
    assert "no room" in run_appliance("status", "--data-dir", str(box.data_dir)).stdout
    for role in ("apiserver", "node"):
        killed_and_back(box, role)
    assert kept.run_code("a + 2").text == "42"
    for path in files:
        path.unlink()
    with made(time.monotonic() + 60) as other:
        assert other.run_code("1 + 1").text == "2"
    assert kept.run_code("a + 3").text == "43"
    log = (box.data_dir / "log" / "apiserver.log").read_text()
    assert "store write" in log and "disk is full" in log
