"""``packaging/kind/`` where something is missing: it says so at once and makes nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

UP = Path(__file__).parents[2] / "packaging" / "kind" / "up.sh"


@pytest.mark.parametrize(
    ("docker", "said"),
    [
        (None, "there is no docker here"),
        ("#!/bin/sh\necho 'Cannot connect to the Docker daemon'; exit 1\n", "no engine answers it (Cannot connect"),
    ],
    ids=["no client", "no engine"],
)
def test_without_docker_it_says_so_at_once(docker: str | None, said: str, tmp_path: Path) -> None:
    """Neither without the client nor without an engine is anything built; the way without Docker is named."""
    done = run(UP, tmp_path, docker)
    assert done.returncode == 1
    assert said in done.stderr
    assert "packaging/run.sh" in done.stderr


@pytest.mark.parametrize("script", ["up.sh", "down.sh"])
def test_without_kind_and_go_it_says_what_to_install(script: str, tmp_path: Path) -> None:
    """An engine answers, but there is no kind, nor anything to build it with."""
    done = run(UP.with_name(script), tmp_path, "#!/bin/sh\nexit 0\n")
    assert done.returncode == 1
    assert "kind is not in PATH" in done.stderr and "install Go" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--file", "/nowhere/appliance.pyz"], "there is no file /nowhere/appliance.pyz"),
        (["--sandbox"], "--sandbox: expected an image archive"),
        (["--nodes"], "unknown argument --nodes"),
    ],
)
def test_wrong_arguments_are_named(words: list[str], said: str, tmp_path: Path) -> None:
    """Before anything is made."""
    done = run(UP, tmp_path, "#!/bin/sh\nexit 0\n", *words)
    assert done.returncode == 1
    assert said in done.stderr


def run(script: Path, programs: Path, docker: str | None, *words: str) -> subprocess.CompletedProcess[str]:
    """The script with nothing in PATH but the shell's own and that ``docker``."""
    for name in ("bash", "sh", "dirname", "tail", "env"):
        (programs / name).symlink_to(f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}")
    if docker is not None:
        (programs / "docker").write_text(docker)
        (programs / "docker").chmod(0o755)
    return subprocess.run(
        [script, *words],
        env={**os.environ, "PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
