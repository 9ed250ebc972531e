"""Working directories: a killed maker's is removed by the next, a living one's never."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from appliance.image.workplace import remove_abandoned, require_place, workplace

PREFIX = "appliance-test-"
CODE = f"""
import sys
from appliance.image.workplace import workplace
with workplace("{PREFIX}") as work:
    (work / "tree").mkdir()
    print(work, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's temporary directory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def maker() -> tuple[subprocess.Popen[str], Path]:
    """Another process at work, and its directory."""
    process = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_killed_makers_directory_goes_with_the_next(place: Path) -> None:
    """Of two makers one is killed: the next build removes its directory, not the other's, and in the end its own."""
    (living, kept), (killed, left) = maker(), maker()
    killed.kill()
    killed.communicate(timeout=60)
    assert left.is_dir()
    with workplace(PREFIX) as own:
        assert sorted(path.name for path in place.iterdir()) == sorted((kept.name, own.name))
    living.communicate(timeout=60)
    assert living.returncode == 0
    assert not list(place.iterdir())


def test_a_directory_without_a_lock_goes_after_a_day(place: Path) -> None:
    """A maker may have made its directory a moment ago; one of yesterday is a version's that had no locks."""
    (place / f"{PREFIX}1" / "tree").mkdir(parents=True)
    now = time.time()
    remove_abandoned(place, PREFIX, now + 80_000)
    assert (place / f"{PREFIX}1").exists()
    remove_abandoned(place, PREFIX, now + 90_000)
    assert not (place / f"{PREFIX}1").exists()


def test_what_is_not_ours_is_not_followed_or_removed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link or a file with such a name, and another user's directory, stay as they are."""
    target = place / "precious"
    target.mkdir()
    (place / f"{PREFIX}link").symlink_to(target)
    (place / f"{PREFIX}file").write_text("")
    remove_abandoned(place, PREFIX, time.time() + 1e6)
    (place / f"{PREFIX}other").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    remove_abandoned(place, PREFIX, time.time() + 1e6)
    assert sorted(path.name for path in place.iterdir()) == sorted(
        ["precious", *(f"{PREFIX}{name}" for name in ("link", "file", "other"))]
    )


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory instead of a file, a directory that is missing, one that is read only: each in a sentence."""
    require_place(tmp_path / "new.tar")
    with pytest.raises(ValueError, match=r"-o .*: this is a directory; expected the name of a file"):
        require_place(tmp_path)
    with pytest.raises(ValueError, match=r"-o .*x\.tar: there is no directory .*missing"):
        require_place(tmp_path / "missing" / "x.tar")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match=r"-o .*new\.tar: the directory .* is not writable"):
        require_place(tmp_path / "new.tar")
