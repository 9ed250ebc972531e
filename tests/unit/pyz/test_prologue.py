"""The single file's first steps, on a small archive assembled by the real builder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pyz import assemble
from pyzfile import base_python, clean_environment

CLI = """
import os, sys
def main():
    print(sys.argv[1:], os.environ["APPLIANCE_PYZ"], sys.dont_write_bytecode, __file__)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What shiv packs: an ``appliance`` package whose command prints where it runs from."""
    package = tmp_path / "tree" / "appliance"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "cli.py").write_text(CLI)
    (package / "data.txt").write_text("".join(f"{n * n:x}" for n in range(40_000))[:200_000])
    return package.parent


@pytest.fixture
def archive(tree: Path, tmp_path: Path) -> Path:
    """The assembled file."""
    target = tmp_path / "away" / "appliance.pyz"
    assemble.assemble(tree, target)
    return target


def start(archive: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the file to its end as a user with an empty home does."""
    home = archive.parent / "home"
    home.mkdir(exist_ok=True)
    return subprocess.run(
        [base_python(), str(archive), *arguments],
        env=clean_environment(home, **environment),
        cwd=archive.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def extraction(archive: Path) -> Path:
    """The extracted tree below the user's cache."""
    return next((archive.parent / "home/.cache/appliance").glob("appliance.pyz_*"))


def test_the_same_tree_gives_the_same_bytes(tree: Path, archive: Path, tmp_path: Path) -> None:
    """A second build is byte-identical, also when the files are younger."""
    os.utime(tree / "appliance/cli.py")
    second = tmp_path / "second.pyz"
    assemble.assemble(tree, second)
    assert second.read_bytes() == archive.read_bytes()


def test_a_changed_tree_gets_another_directory(tree: Path, archive: Path, tmp_path: Path) -> None:
    """Two versions never share an extraction: the build id follows the contents."""
    old = archive.read_bytes()
    assert start(archive).returncode == 0
    (tree / "appliance/cli.py").write_text(CLI + "\n# newer\n")
    assemble.assemble(tree, archive)
    assert archive.read_bytes() != old
    assert start(archive).returncode == 0
    assert len(list((archive.parent / "home/.cache/appliance").glob("appliance.pyz_*"))) == 2


def test_bytecode_is_kept_whatever_the_environment_says(archive: Path) -> None:
    """With PYTHONDONTWRITEBYTECODE=1 the file's own cache still holds compiled modules after the first start."""
    done = start(archive, "word", PYTHONDONTWRITEBYTECODE="1")
    assert done.stdout.startswith(f"['word'] {archive} False "), done.stderr
    assert list(extraction(archive).rglob("cli.*.pyc"))


def test_somebody_elses_pythonpath_does_not_win(archive: Path, tmp_path: Path) -> None:
    """A package named appliance on PYTHONPATH is not what runs."""
    other = tmp_path / "other" / "appliance"
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("raise SystemExit('the wrong one')")
    done = start(archive, PYTHONPATH=str(other.parent))
    assert done.returncode == 0, done.stderr


def test_two_first_starts_at_once(archive: Path) -> None:
    """Processes that both find nothing extracted both end well, and one whole tree is there."""
    home = archive.parent / "home"
    home.mkdir()
    command = [base_python(), str(archive)]
    starts = [subprocess.Popen(command, env=clean_environment(home), stdout=subprocess.PIPE) for _ in range(4)]
    outputs = [process.communicate(timeout=60)[0] for process in starts]
    assert [process.returncode for process in starts] == [0] * 4
    assert len(set(outputs)) == 1
    assert (extraction(archive) / "site-packages/appliance/data.txt").stat().st_size == 200_000


def test_a_half_finished_extraction_is_done_again(archive: Path) -> None:
    """What a killed first start left beside the target is completed, never used as it is."""
    assert start(archive).returncode == 0
    whole = extraction(archive)
    half = whole.with_name(whole.name + ".tmp")
    whole.rename(half)
    (half / "site-packages/appliance/cli.py").write_text("raise SystemExit('half')")
    (half / "site-packages/appliance/data.txt").unlink()
    done = start(archive)
    assert done.returncode == 0, done.stderr
    assert (whole / "site-packages/appliance/data.txt").stat().st_size == 200_000


def test_compiled_modules_of_other_pythons_stay_in_the_file(tree: Path, tmp_path: Path) -> None:
    """A first start extracts what this Python can load, in a directory that another version does not share."""
    own = f"{sys.version_info[0]}{sys.version_info[1]}"
    for version in (own, "399"):
        (tree / f"appliance/fast.cpython-{version}-x86_64-linux-gnu.so").write_bytes(b"ELF")
    (tree / "appliance/_bound.abi3.so").write_bytes(b"ELF")
    archive = tmp_path / "away" / "appliance.pyz"
    assemble.assemble(tree, archive)
    assert start(archive).returncode == 0
    found = extraction(archive)
    assert found.name.endswith(f"_{own}")
    names = {path.name for path in found.rglob("*.so")}
    assert names == {f"fast.cpython-{own}-x86_64-linux-gnu.so", "_bound.abi3.so"}
    assert {path.stat().st_mode & 0o777 for path in found.rglob("*.py")} == {0o644}


def test_a_share_that_no_worker_can_write_is_said(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that cannot be had, or that fail, leave their share to the parent; what fails there too is raised."""
    from pyz import unpack

    with zipfile.ZipFile(archive) as opened:
        members = opened.infolist()
    monkeypatch.setattr(unpack.os, "sched_getaffinity", lambda _: {0, 1, 2})

    def no_more() -> int:
        raise BlockingIOError(11, "no process can be made")

    with monkeypatch.context() as without:
        without.setattr(unpack.os, "fork", no_more)
        unpack.unpack(str(archive), members, str(archive.parent / "alone"))
    unpack.unpack(str(archive), members, str(archive.parent / "shared"))
    for name in ("alone", "shared"):
        assert (archive.parent / name / "site-packages/appliance/data.txt").stat().st_size == 200_000
    for member in members:
        member.CRC ^= 1
    with pytest.raises(zipfile.BadZipFile, match="has another checksum"):
        unpack.unpack(str(archive), members, str(archive.parent / "damaged"))
    assert not list(archive.parent.glob("damaged*"))


def test_a_read_only_extraction_is_used_as_it_is(archive: Path, tmp_path: Path) -> None:
    """SHIV_ROOT may name a place nothing can be written to, once the tree is there."""
    place = tmp_path / "opt"
    assert start(archive, SHIV_ROOT=str(place)).returncode == 0
    before = sorted(place.rglob("*"))
    for path in [*before, place]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    done = start(archive, SHIV_ROOT=str(place))
    assert done.returncode == 0, done.stderr
    assert str(place) in done.stdout
    assert sorted(place.rglob("*")) == before


def test_a_home_that_cannot_be_used_is_passed_over(archive: Path) -> None:
    """Without a usable home directory the file extracts elsewhere, into a directory of this user alone."""
    done = start(archive, HOME="/nonexistent", XDG_CACHE_HOME="")
    assert done.returncode == 0, done.stderr
    place = Path(done.stdout.split()[-1]).parents[2]
    assert place.is_relative_to("/var/cache/appliance" if os.geteuid() == 0 else f"/var/tmp/appliance-{os.geteuid()}")
    assert place.parent.stat().st_mode & 0o022 == 0
    for path in sorted(place.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    place.rmdir()


def test_a_cache_others_can_write_to_is_not_trusted(archive: Path) -> None:
    """Code is never loaded from a directory that somebody else may have filled."""
    cache = archive.parent / "home/.cache"
    cache.mkdir(parents=True)
    (cache / "appliance").mkdir()
    (cache / "appliance").chmod(0o777)
    done = start(archive)
    assert done.returncode == 0, done.stderr
    assert not list((cache / "appliance").iterdir())


def test_a_damaged_file_is_named_and_refused(archive: Path) -> None:
    """A flipped byte in a library is one sentence with the file's name, exit code 1, and nothing is extracted."""
    with zipfile.ZipFile(archive) as opened:
        entry = opened.getinfo("site-packages/appliance/data.txt")
    data = bytearray(archive.read_bytes())
    data[entry.header_offset + 30 + len(entry.filename) + 20] ^= 0xFF
    archive.write_bytes(data)
    done = start(archive)
    assert done.returncode == 1
    assert f"{archive} is damaged" in done.stderr
    assert "Traceback" not in done.stderr


def test_half_a_file_says_so(archive: Path) -> None:
    """A file that lost its end is named, and where Python shows the line it stumbles over, so is what to do."""
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    done = start(archive)
    assert done.returncode == 1
    assert str(archive) in done.stderr
    assert sys.version_info < (3, 11, 4) or "This copy of the file is incomplete: copy it again" in done.stderr


def test_a_file_with_another_member_is_refused(archive: Path, tmp_path: Path) -> None:
    """A file that was opened, changed and packed again, checksums and all, is refused; nothing of it runs."""
    other = tmp_path / "other"
    with zipfile.ZipFile(archive) as old:
        members = {entry.filename: old.read(entry) for entry in old.infolist()}
    members["site-packages/appliance/cli.py"] = b"def main(): print('somebody else')"
    with zipfile.ZipFile(other, "w") as new:
        for name, data in members.items():
            new.writestr(name, data)
    archive.write_bytes(b"#!/usr/bin/env python3\n" + other.read_bytes())
    done = start(archive)
    assert done.returncode == 1
    assert f"{archive} is not what was built" in done.stderr
    assert "somebody else" not in done.stdout
    assert not list((archive.parent / "home/.cache/appliance").glob("*/site-packages"))


def test_a_machine_it_has_no_libraries_for_is_refused(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python or a processor that the file was not built for is named together with those that it was."""
    monkeypatch.setattr(assemble, "VERSIONS", ("3.99",))
    target = tmp_path / "appliance.pyz"
    assemble.assemble(tree, target)
    assert "carries libraries for Python 3.99, not 3." in start(target).stderr
    monkeypatch.undo()
    monkeypatch.setattr(assemble.platform, "machine", lambda: "pdp11")
    assemble.assemble(tree, target)
    assert "is for pdp11 machines, this one is" in start(target).stderr


def test_too_old_a_python_hands_over_to_a_newer_one_or_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The newest interpreter in PATH that the file has libraries for takes over; without one the refusal names both."""
    from pyz import prologue

    handed: list[list[str]] = []
    monkeypatch.setattr(prologue, "OLDEST", (99, 0))
    monkeypatch.setattr(prologue, "VERSIONS", "3.97 3.98 3.99")
    monkeypatch.setattr(prologue.os, "execv", lambda _, words: handed.append(words))
    monkeypatch.setattr(prologue.sys, "argv", ["appliance.pyz", "status"])
    for name in ("python3.97", "python3.98"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        prologue._check_interpreter("/x/appliance.pyz")
    assert handed[0] == [str(tmp_path / "python3.98"), "/x/appliance.pyz", "status"]
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemExit):
        prologue._check_interpreter("/x/appliance.pyz")
    assert "is too old; 99.0 or newer is needed" in capsys.readouterr().err
