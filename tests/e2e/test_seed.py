"""The seed document's SDK programs, exactly as written, against a real box."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from boxes import RunningBox, environment

pytestmark = pytest.mark.box
PROGRAM = Path(__file__).parent / "seed" / "sdk_program.py"


def test_every_program_of_the_seed_runs_unmodified(box: RunningBox) -> None:
    """§2.1.1 to §2.1.5 run to their end over plain HTTP and print what the document says (2.8.1: test_domain.py)."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        env={**environment(), **box.env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{done.stderr}\n{box.role_logs()}"
    lines = done.stdout.splitlines()
    assert lines[0].startswith("sandbox id: i")
    assert lines[1] == f"sandbox {lines[0].removeprefix('sandbox id: ')} killed"
    assert PROGRAM.read_text() in done.stdout
    assert "hello" in lines
    assert "world" in lines
    assert any("exit_code=0" in line for line in lines)
