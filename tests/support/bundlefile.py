"""The bundle under test: packed once for the whole run by the built single file, one sandbox image in it."""

from __future__ import annotations

import subprocess
import tempfile
from functools import cache
from pathlib import Path

from pyzfile import base_python, built, clean_environment

from appliance.image import oci

SANDBOX_IMAGE = "docker.io/library/far:1"


@cache
def built_bundle() -> Path:
    """Path of the bundle, beside the single file."""
    target = built().resolve().with_name("bundle-test.tar")
    with tempfile.TemporaryDirectory() as work:
        layer = oci.layer({"etc/far": b"far"}, "x")
        oci.write(Path(work) / "far.tar", SANDBOX_IMAGE, [layer], {"Cmd": ["/x"]}, "x86_64")
        command = [base_python(), str(built()), "bundle", "-o", str(target), "--image", f"{work}/far.tar"]
        subprocess.run(command, env=clean_environment(Path(work)), check=True, timeout=280, cwd=work)
    return target
