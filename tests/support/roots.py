"""Root file systems of containers, for tests of what has to start in any image: Debian's of two ages, and nearly none.

Debian's are made by debootstrap once and kept as archives outside the checkout.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

MIRROR = "http://deb.debian.org/debian"
MINUTES = 600
"""Seconds that debootstrap may take where the mirror is slow."""


def debian(suite: str, target: Path) -> None:
    """A minimal Debian system of that suite, made by debootstrap."""
    if shutil.which("debootstrap") is None:
        pytest.skip("debootstrap is missing: apt-get install debootstrap (packaging/test.sh does)")
    cached = _cache() / f"debian-{suite}.tar"
    with (cached.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not cached.exists():
            _bootstrap(suite, target.with_name(f"{target.name}.new"), cached)
    target.mkdir()
    subprocess.run(["tar", "-xf", cached, "-C", target], check=True)


def _bootstrap(suite: str, work: Path, cached: Path) -> None:
    command = ["debootstrap", "--variant=minbase", "--no-merged-usr", suite, str(work), MIRROR]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MINUTES)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    fresh = cached.with_suffix(".part")
    subprocess.run(["tar", "-cf", fresh, "-C", work, "--exclude=./dev/*", "--exclude=./proc/*", "."], check=True)
    fresh.replace(cached)
    shutil.rmtree(work)


def _cache() -> Path:
    base = os.environ.get("APPLIANCE_CACHE") or Path.home() / ".cache" / "appliance"
    directory = Path(base) / "roots"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def without_shells(root: Path) -> None:
    """Take every shell out of a root."""
    for directory in ("bin", "usr/bin", "sbin", "usr/sbin"):
        for name in ("sh", "bash", "dash", "rbash"):
            (root / directory / name).unlink(missing_ok=True)


def static(target: Path) -> None:
    """One statically linked program, ``/busybox``, and nothing else."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is missing: apt-get install busybox-static (packaging/test.sh does)")
    target.mkdir()
    shutil.copy(busybox, target / "busybox")
