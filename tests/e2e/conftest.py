"""Fixtures of the end-to-end tests.

One box is shared by the session; tests that kill parts of it start their own through ``start_box``.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from boxes import RunningBox, launch

NEEDED = ("ip", "nft", "mkfs.ext4")


@pytest.fixture(scope="session")
def machine() -> None:
    """Skip where a box cannot run, naming what is missing; CI has all of it."""
    if os.geteuid() != 0:
        pytest.skip("a box needs root; run packaging/test.sh as root")
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    missing = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"missing {missing}; packaging/test.sh installs them")


@pytest.fixture
def start_box(machine: None, tmp_path: Path) -> Iterator[Callable[..., RunningBox]]:
    """A function that starts further boxes; whatever still runs at the end is stopped."""
    started: list[RunningBox] = []

    def start(
        data_dir: Path | None = None, *, pool: int = 1, wait: bool = True, extra: tuple[str, ...] = ()
    ) -> RunningBox:
        box = launch(data_dir or tmp_path / "box", pool=pool, extra=extra)
        started.append(box)
        if wait:
            box.wait_ready()
        return box

    yield start
    for box in started:
        if box.process.poll() is None:
            box.stop()


@pytest.fixture(scope="session")
def box(machine: None) -> Iterator[RunningBox]:
    """The session's box with a warm pool of four."""
    directory = Path(tempfile.mkdtemp(prefix="appliance-e2e-"))
    running = launch(directory, pool=4)
    try:
        running.wait_ready()
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def address(box: RunningBox) -> tuple[str, int]:
    """The gateway's socket."""
    host, _, port = box.env["E2B_SANDBOX_URL"].removeprefix("http://").partition(":")
    return host, int(port)
