"""One large file up and down through the unmodified SDK and a whole box: rate, and what the processes on its way hold.

    python tests/bench/large_file.py [--gib 10]

Starts a box of its own (as root), with a sandbox whose disk has room for the file. Up: the SDK streams a file object,
multipart and as octet-stream; down: the SDK's stream, read and thrown away. Manager and runtime are looked at five
times a second; "held" is the most that their proportional set size was above what it was before.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]

import footprint
import yaml
from boxes import ROOT, launch, run_appliance
from e2b import Sandbox

GIB = 1 << 30
PIECE = 1 << 20
TARGET = "/home/user/large"


class Source(io.RawIOBase):
    """So many bytes, of which nobody keeps more than a piece."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.piece = bytes(range(256)) * (PIECE // 256)

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes."""
        count = min(len(buffer), self.left, PIECE)
        buffer[:count] = self.piece[:count]
        self.left -= count
        return count


@contextmanager
def watched(pids: dict[str, int]) -> Iterator[dict[str, int]]:
    """The most that each process held above what it held before, in bytes; complete when the block is left."""
    before = {name: footprint.pss(pid) for name, pid in pids.items()}
    held = dict.fromkeys(pids, 0)
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            for name, pid in pids.items():
                held[name] = max(held[name], footprint.pss(pid) - before[name])

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield held
    finally:
        done.set()
        thread.join()


def measure(name: str, size: int, pids: dict[str, int], work: Callable[[], None]) -> None:
    """Run it and print a line."""
    with watched(pids) as held:
        began = time.perf_counter()
        work()
        took = time.perf_counter() - began
    most = ", ".join(f"{process} +{value / PIECE:.1f} MiB" for process, value in held.items())
    print(f"{name:28} {size / took / 1e6:7.0f} MB/s   held: {most}", flush=True)


def transfer(sandbox: Sandbox, size: int, pids: dict[str, int]) -> None:
    """Up in both forms and down, checking the size each time."""

    def up(octet: bool) -> Callable[[], None]:
        return lambda: void(sandbox.files.write(TARGET, Source(size), use_octet_stream=octet, request_timeout=1800))

    def down() -> None:
        got = sum(len(piece) for piece in sandbox.files.read(TARGET, format="stream", request_timeout=1800))
        assert got == size, f"{got} of {size} bytes came"

    for name, octet in (("up, multipart", False), ("up, octet-stream", True)):
        measure(name, size, pids, up(octet))
        there = sandbox.files.get_info(TARGET).size
        assert there == size, f"{there} of {size} bytes arrived"
    measure("down", size, pids, down)


def void(_: object) -> None:
    """Throw an answer away."""


def pool(size: int) -> str:
    """The seed's pool, of one sandbox with room for the file."""
    body = yaml.safe_load((ROOT / "tests" / "e2e" / "seed" / "sandboxset.yaml").read_text())
    body["metadata"]["name"] = "large"
    body["spec"]["replicas"] = 1
    limits = body["spec"]["template"]["spec"]["containers"][0].setdefault("resources", {}).setdefault("limits", {})
    limits["ephemeral-storage"] = f"{size // GIB + 2}Gi"
    return str(yaml.safe_dump(body))


def main() -> None:
    """A box, a sandbox, the transfers; nothing is left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=10, help="size of the file")
    size = parser.parse_args().gib * GIB
    directory = Path(tempfile.mkdtemp(prefix="large-"))
    box = launch(directory / "box", pool=0)
    try:
        box.wait_ready()
        manifest = directory / "pool.yaml"
        manifest.write_text(pool(size))
        run_appliance("apply", "-f", str(manifest), "--data-dir", str(box.data_dir))
        reach = {"api_key": box.env["E2B_API_KEY"], "api_url": box.env["E2B_API_URL"]}
        with Sandbox.create("large", timeout=3600, sandbox_url=box.env["E2B_SANDBOX_URL"], **reach) as sandbox:
            pids = {"manager": box.role_pid("manager"), "runtime": footprint.runtime_of(sandbox)}
            transfer(sandbox, size, pids)
    finally:
        box.stop()
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
