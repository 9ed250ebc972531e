"""From a bundle to the first cell, as on the far side: the built file packs it, and what comes out of it is used."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from bundlefile import SANDBOX_IMAGE, built_bundle
from pyzfile import base_python, built, clean_environment

from appliance import __version__

pytestmark = pytest.mark.timeout(300)


def run(file: Path, home: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a copy of the file, with nothing else of ours around."""
    command = [base_python(), str(file), *map(str, arguments)]
    return subprocess.run(
        command, env=clean_environment(home), cwd=home, capture_output=True, text=True, check=False, timeout=280
    )


def test_the_file_from_the_bundle_verifies_and_loads_it(tmp_path: Path) -> None:
    """On a machine that has the bundle only: unpack the program, check everything, load the images of a box."""
    with tarfile.open(built_bundle()) as tar:
        tar.extract("appliance.pyz", tmp_path, filter="data")
    program = tmp_path / "appliance.pyz"
    assert os.access(program, os.X_OK)
    assert program.read_bytes() == built().read_bytes()
    checked = run(program, tmp_path, "bundle", "verify", built_bundle())
    assert checked.returncode == 0, checked.stderr
    for words in (f"docker.io/library/appliance:{__version__}", SANDBOX_IMAGE, f"appliance {__version__}"):
        assert words in checked.stdout
    loaded = run(program, tmp_path, "bundle", "load", built_bundle(), "--into", "box", "--data-dir", tmp_path / "d")
    assert loaded.stdout == f"box: {SANDBOX_IMAGE}\n", loaded.stderr
    notes = [json.loads(path.read_text()) for path in (tmp_path / "d/node/images/names").iterdir()]
    assert [Path(layer, "etc/far").read_text() for layer in notes[0]["layers"]] == ["far"]


def test_sha256sum_can_check_it(tmp_path: Path) -> None:
    """Without Python: unpack, and let coreutils compare every file."""
    with tarfile.open(built_bundle()) as tar:
        tar.extractall(tmp_path, filter="data")
    done = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout
    chart = next(tmp_path.glob("chart/*.tgz"))
    with tarfile.open(chart) as tar:
        assert {"appliance/Chart.yaml", "appliance/values.yaml", "appliance/templates/crds.yaml"} <= set(tar.getnames())


def test_a_truncated_bundle_is_named_and_refused(tmp_path: Path) -> None:
    """Half a copy, as of a stick that was pulled out: neither verified nor loaded, by the built file itself."""
    half = tmp_path / "half.tar"
    half.write_bytes((built_bundle()).read_bytes()[:40_000_000])
    for words in (["verify"], ["load", "--into", "box", "--data-dir", str(tmp_path / "d")]):
        done = run(built(), tmp_path, "bundle", words[0], half, *words[1:])
        assert done.returncode == 1
        assert str(half) in done.stderr
        assert "truncated" in done.stderr or "damaged" in done.stderr
    assert not (tmp_path / "d").exists()
