"""The seed document's SDK programs, exactly as written, against a real box, with two SDK releases a year apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from boxes import RunningBox, environment

pytestmark = pytest.mark.box
PROGRAM = Path(__file__).parent / "seed" / "sdk_program.py"


def interpreters() -> dict[str, str]:
    """SDK release → the interpreter of the environment that has it."""
    old = os.environ.get("APPLIANCE_TEST_OLD_SDK")
    return {"newest": sys.executable, **({"2.8.1": f"{old}/bin/python"} if old else {})}


@pytest.mark.parametrize("release", ["newest", "2.8.1"])
def test_every_program_of_the_seed_runs_unmodified(box: RunningBox, release: str) -> None:
    """§2.1.1 to §2.1.5 run to their end and print what the document says, with either SDK release."""
    python = interpreters().get(release)
    if python is None:
        pytest.skip("APPLIANCE_TEST_OLD_SDK is unset; packaging/test.sh makes the environment")
    done = subprocess.run(
        [python, str(PROGRAM)],
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
