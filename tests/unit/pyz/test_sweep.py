"""Old versions' extracted trees: which go at a newer version's first start, and which never do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyz import assemble, sweep
from pyzfile import base_python, clean_environment

CLI = """
import sys
def main():
    print(__file__, flush=True)
    if "stay" in sys.argv:
        sys.stdin.read()
# {version}
"""


class Versions:
    """One path at which one version after another lies, and the cache that its starts extract to."""

    def __init__(self, directory: Path) -> None:
        self.package = directory / "tree" / "appliance"
        self.package.mkdir(parents=True)
        (self.package / "__init__.py").write_text("")
        self.archive = directory / "away" / "appliance.pyz"
        self.home = directory / "home"
        self.home.mkdir()
        self.cache = self.home / ".cache" / "appliance"
        self.running: list[subprocess.Popen[str]] = []

    def assemble(self, version: str) -> None:
        """Put that version there."""
        (self.package / "cli.py").write_text(CLI.format(version=version))
        assemble.assemble(self.package.parent, self.archive)

    def begin(self, **environment: str) -> tuple[subprocess.Popen[str], Path]:
        """A process of the version that lies there, which goes on running, and its tree."""
        command = [base_python(), str(self.archive), "stay"]
        found = clean_environment(self.home, **environment)
        process = subprocess.Popen(command, env=found, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.running.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip()).parents[2]

    def start(self, version: str, *, days: float = 0, **environment: str) -> Path:
        """Start that version to its end and make its tree look unused for so long."""
        self.assemble(version)
        process, tree = self.begin(**environment)
        end(process)
        age(tree, days)
        return tree


@pytest.fixture
def versions(tmp_path: Path) -> Iterator[Versions]:
    """None yet."""
    made = Versions(tmp_path)
    yield made
    for process in made.running:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Let a process that stays end well."""
    if process.returncode is None:
        process.communicate(timeout=60)
    assert process.returncode == 0


def age(tree: Path, days: float) -> None:
    """Set the time of its last start."""
    then = time.time() - days * sweep.DAY
    os.utime(tree, (then, then))


def test_a_first_start_removes_what_was_not_started_for_a_fortnight(versions: Versions) -> None:
    """The longest unused go first, two at a time; younger ones and what is no tree stay."""
    *old, young = [versions.start(f"{days} days") for days in (15, 30, 20, 13)]
    for tree, days in zip((*old, young), (15, 30, 20, 13), strict=True):
        age(tree, days)
    other = versions.cache / f"notes_{'0' * 16}"
    (other / "site-packages").mkdir(parents=True)
    (other / "mine").write_text("")
    age(other, 40)
    new = versions.start("new")
    assert [tree.exists() for tree in (*old, young, other, new)] == [True, False, False, True, True, True]
    versions.start("newer")
    assert [tree.exists() for tree in (*old, young, other, new)] == [False, False, False, True, True, True]


def test_a_start_says_when_the_tree_was_used_last(versions: Versions) -> None:
    """An old version that is still started is not an unused one."""
    old = versions.start("old", days=30)
    versions.start("old")
    versions.start("new")
    assert old.exists()


def test_of_many_versions_a_few_are_kept(versions: Versions) -> None:
    """Whoever builds twenty versions a week keeps the last ones, not a fortnight's; today's all stay."""
    today = [versions.start(f"today {hour}", days=hour / 24) for hour in range(3)]
    trees = [versions.start(f"{days}", days=days) for days in (1.1, 1.2, 1.3, 1.4)]
    versions.start("new")
    assert [tree.exists() for tree in (*today, *trees)] == [True] * 5 + [False] * 2


def test_a_running_version_keeps_its_tree(versions: Versions) -> None:
    """However old: as long as one of its processes runs it stays; with the last one it may go."""
    versions.assemble("old")
    process, tree = versions.begin()
    age(tree, 100)
    versions.start("new")
    assert tree.exists()
    end(process)
    versions.start("newer")
    assert not tree.exists()


def test_a_tree_that_proc_shows_stays(versions: Versions) -> None:
    """Processes without the lock, as sandboxes and those of earlier versions, are found by the tree's name."""
    tree = versions.start("old", days=100)
    environment = {**os.environ, "PYTHONPATH": str(tree / "site-packages")}
    command = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        versions.start("new")
        assert tree.exists()
        other.communicate("\n", timeout=60)
    versions.start("newer")
    assert not tree.exists()


def test_half_a_tree_goes_unless_it_is_being_made(versions: Versions) -> None:
    """What a killed extraction of another version left is removed; the lock of extractions tells the two apart."""
    tree = versions.start("old")
    half = tree.with_name(tree.name + ".tmp")
    tree.rename(half)
    with (versions.cache / f".{tree.name}_lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        versions.start("new")
        assert half.exists()
    versions.start("newer")
    assert not half.exists()


def test_a_start_of_a_version_that_is_being_removed_extracts_anew(versions: Versions) -> None:
    """It waits for the removal's end and never runs from what is going."""
    tree = versions.start("old")
    with (versions.cache / f".{tree.name}_lock").open("a") as lock:
        directory = os.open(tree, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            fcntl.flock(directory, fcntl.LOCK_EX)
            command = [base_python(), str(versions.archive)]
            process = subprocess.Popen(command, env=clean_environment(versions.home), stdout=subprocess.PIPE, text=True)
            tree.rename(tree.with_name(tree.name + ".tmp"))
        finally:
            os.close(directory)
    output, _ = process.communicate(timeout=60)
    assert output.startswith(str(tree))
    assert (tree / "site-packages/appliance/cli.py").exists()
    assert not tree.with_name(tree.name + ".tmp").exists()


def test_a_place_that_somebody_named_is_left_alone(versions: Versions, tmp_path: Path) -> None:
    """Below SHIV_ROOT, which users may share, nothing is removed."""
    place = str(tmp_path / "place")
    old = versions.start("old", days=100, SHIV_ROOT=place)
    assert old.is_relative_to(place)
    versions.start("new", SHIV_ROOT=place)
    assert old.exists()


def test_what_cannot_be_removed_stops_nothing(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tree that resists is passed over; the next one goes all the same, and a place that is gone is no error."""
    first, second = versions.start("first", days=60), versions.start("second", days=50)
    real = sweep.shutil.rmtree

    def resists(path: str) -> None:
        if first.name in path:
            raise PermissionError(13, "it resists")
        real(path)

    monkeypatch.setattr(sweep.shutil, "rmtree", resists)
    sweep.sweep(str(versions.cache), "own")
    assert not first.exists()  # set aside: nobody starts from half a tree
    assert not second.exists()
    sweep.sweep(str(versions.cache / "missing"), "own")
