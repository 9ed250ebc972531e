"""The image archive under test: one for the whole run, made by the built single file when nobody has made it yet."""

from __future__ import annotations

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from pyzfile import base_python, built, clean_environment

from appliance import __version__

NAME = f"docker.io/library/appliance:{__version__}"


@cache
def built_image() -> Path:
    """Path of the archive: ``APPLIANCE_TEST_IMAGE`` (packaging/test.sh sets it), else built now beside the file."""
    named = os.environ.get("APPLIANCE_TEST_IMAGE")
    if named:
        return Path(named)
    target = built().resolve().with_name("appliance-test.tar")
    build(target)
    return target


def build(target: Path, file: Path | None = None) -> None:
    """``appliance.pyz image build``, from an empty home."""
    with tempfile.TemporaryDirectory() as home:
        command = [base_python(), str(file or built()), "image", "build", "-o", str(target)]
        subprocess.run(command, env=clean_environment(Path(home)), check=True, timeout=280, cwd=home)
