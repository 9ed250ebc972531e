"""Placing the tree in a sandbox's volume."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from appliance import cli
from appliance.image import libraries, place, tree


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree whose "interpreter" prints its arguments and whose "loader" runs what follows its own options."""
    home = tmp_path / "source"
    (home / "lib").mkdir(parents=True)
    (home / "python/bin").mkdir(parents=True)
    (home / "lib/ld-x.so").write_text('#!/bin/sh\nshift 2\nexec "$@"\n')
    (home / "python/bin/python3.11").write_text('#!/bin/sh\necho "$@"\n')
    for path in (home / "lib/ld-x.so", home / "python/bin/python3.11"):
        path.chmod(0o755)
    (home / "boot.py").write_text("boot")
    (home / "build").write_text("first")
    tree.programs(home, str(home))
    return home


def test_the_placed_runtime_starts_from_the_new_place(source: Path, tmp_path: Path) -> None:
    """Its program goes through the loader and interpreter of the workspace, not of the image."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    place.place(source, workspace)
    said = subprocess.run([workspace / "appliance-runtime", "start"], capture_output=True, text=True, check=True).stdout
    assert said == f"-I {workspace}/boot.py --role=runtime start\n"


def test_complete_means_this_build_and_all_of_it(source: Path, tmp_path: Path) -> None:
    """An empty volume, a half-filled one and one of another build are not complete; placing makes each so."""
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    assert not place.complete(source, workspace)
    place.place(source, workspace)
    assert place.complete(source, workspace)
    (workspace / "appliance-runtime").unlink()
    assert not place.complete(source, workspace)
    place.place(source, workspace)
    (source / "build").write_text("second")
    (source / "boot.py").write_text("newer")
    assert not place.complete(source, workspace)
    place.place(source, workspace)
    assert place.complete(source, workspace)
    assert (workspace / "boot.py").read_text() == "newer"


def test_a_relative_workspace_is_refused(source: Path) -> None:
    """The programs hold the absolute path; a relative one names the variable and the value."""
    with pytest.raises(ValueError, match="AGENT_RUNTIME_WORKSPACE: expected an absolute path, got 'here'"):
        place.place(source, Path("here"))


def test_inject_outside_an_image_says_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the variable, and without a tree of its own, the command fails with a sentence."""
    monkeypatch.delenv("AGENT_RUNTIME_WORKSPACE", raising=False)
    assert cli.main(["inject", "--once"]) == 1
    assert "AGENT_RUNTIME_WORKSPACE is not set" in capsys.readouterr().err
    monkeypatch.setenv("AGENT_RUNTIME_WORKSPACE", str(tmp_path))
    assert cli.main(["inject", "--once"]) == 1
    assert "is not a self-contained tree" in capsys.readouterr().err


def test_libraries_of_other_roles_stay_out_of_sandboxes(source: Path, tmp_path: Path) -> None:
    """What only managers, controllers and the flight deck import is not copied; everything else is."""
    kept, left = (
        ("ipykernel", "pygments", "uvicorn-1.0.dist-info"),
        ("kubernetes", "pydantic_core", "rich-15.0.dist-info"),
    )
    for name in (*kept, *left):
        (source / "site" / name).mkdir(parents=True)
        (source / "site" / name / "x.py").write_text("")
    (source / "app" / "tui").mkdir(parents=True)
    (tmp_path / "workspace").mkdir()
    place.place(source, tmp_path / "workspace")
    assert sorted(path.name for path in (tmp_path / "workspace/site").iterdir()) == sorted(kept)
    assert list((tmp_path / "workspace/app").iterdir()) == []


def test_await_ends_once_the_runtime_is_placed(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sidecar's hook waits while nothing is placed, ends well when all is, and gives up in words."""
    monkeypatch.setenv("AGENT_RUNTIME_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("APPLIANCE_PYZ", str(source / "boot.py"))
    monkeypatch.setattr(place, "AWAIT_TIMEOUT", 0.0)
    assert cli.main(["inject", "--await"]) == 1
    assert "was not placed" in capsys.readouterr().err
    waits: list[float] = []

    def placed_meanwhile(seconds: float) -> None:
        waits.append(seconds)
        place.place(source, tmp_path / "workspace")

    monkeypatch.setattr(place, "AWAIT_TIMEOUT", 60.0)
    monkeypatch.setattr(time, "sleep", placed_meanwhile)
    (tmp_path / "workspace").mkdir()
    assert cli.main(["inject", "--await"]) == 0
    assert len(waits) == 1


def test_an_image_is_built_from_the_single_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkout, another architecture and a name without a tag are refused before anything is written."""
    monkeypatch.delenv("APPLIANCE_PYZ", raising=False)
    target = tmp_path / "image.tar"
    for arguments, complaint in (
        ([], "built from the single file"),
        (["--arch", "s390x"], "--arch: s390x cannot be built here"),
        (["--name", "it"], "--name: expected NAME:TAG"),
    ):
        assert cli.main(["image", "build", "-o", str(target), *arguments]) == 1
        assert complaint in capsys.readouterr().err
    assert not target.exists()


def test_the_loader_and_what_it_loads_are_found() -> None:
    """Of the running interpreter: a loader that exists, and libc among its libraries."""
    program = tree.interpreter()
    loader = libraries.loader(program)
    assert loader.exists()
    found = libraries.needed([program], loader)
    assert "libc.so.6" in found
    assert all(path.is_file() for path in found.values())


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    """A text file has no loader; the error names it."""
    text = tmp_path / "text"
    text.write_text("#!/bin/sh")
    with pytest.raises(ValueError, match="expected a 64-bit ELF"):
        libraries.loader(text)
