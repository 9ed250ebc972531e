"""``packaging/kind/up.sh`` where there is no Docker: it says so at once and makes nothing."""

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
    for name in ("bash", "dirname", "tail", "env"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}" if Path(f"/usr/bin/{name}").exists() else f"/bin/{name}")
    if docker is not None:
        (tmp_path / "docker").write_text(docker)
        (tmp_path / "docker").chmod(0o755)
    done = subprocess.run(
        [UP], env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "packaging/run.sh" in done.stderr
