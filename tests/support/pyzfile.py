"""The built ``appliance.pyz`` under test: one for the whole run, built when nobody has built it yet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def built() -> Path:
    """Path of the file: ``APPLIANCE_TEST_PYZ`` (packaging/test.sh sets it), else built now from this checkout."""
    named = os.environ.get("APPLIANCE_TEST_PYZ")
    if named:
        return Path(named)
    target = ROOT / "dist" / "test" / "appliance.pyz"
    subprocess.run([ROOT / "packaging/build.sh", "--no-table", "-o", target], check=True, timeout=600)
    return target


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a machine that has nothing of ours: no checkout, no virtual environment, no cache."""
    return {"HOME": str(home), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **more}


def base_python() -> str:
    """The interpreter under the virtual environment, which sees none of its packages."""
    return str(Path(getattr(sys, "_base_executable", sys.executable)).resolve())
