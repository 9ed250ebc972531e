"""``packaging/kind/``, whole: a cluster made by kind, the product on it, the first cell, and nothing left of it.

Docker's engine is a private one and the node image is of ``packaging/kind/node-image.sh``: no registry is asked.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from pyzfile import ROOT, built
from realnode import cluster, images

NODE = os.environ.get("APPLIANCE_TEST_KIND_NODE")
KIND = ROOT / "packaging" / "kind"
pytestmark = [pytest.mark.realnode, pytest.mark.timeout(600)]


def test_up_brings_a_cluster_to_its_first_cell_and_down_removes_it() -> None:
    """Both scripts in a machine without internet, from the built file."""
    if NODE is None:
        pytest.skip("APPLIANCE_TEST_KIND_NODE is not set: packaging/kind/node-image.sh prints its path")
    up = [KIND / "up.sh", "--file", built().resolve(), "--image", NODE, "--sandbox", images.sandbox()]
    both = 'down=$1; shift; "$@" && "$down" && docker ps --all --quiet'
    private = [KIND / "private.sh", *(["--volatile"] if cluster.plenty() else [])]
    words = [*private, "bash", "-c", both, "bash", KIND / "down.sh", *up]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "6 * 7 = 42"  # and no container after it
    assert "available (2 of 2)" in done.stdout
