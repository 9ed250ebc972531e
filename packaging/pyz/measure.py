"""The start-up table of a built file: wall and CPU seconds and peak memory, cold, first and warm.

Every row is a process of its own, started from an empty directory with an empty cache of its own. A role's row loads
all that the role loads before it serves; what a role does next depends on a cluster, not on this file.

Run as a program (``measure.py FILE``, or ``measure.py --image ARCHIVE`` as root for the built image): the kernel counts
a parent's memory at the fork as the child's, so the parent has to be small.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROLES = {
    "all": "appliance.box.main",
    "apiserver": "appliance.embedded.apiserver.main",
    "node": "appliance.embedded.node.main",
    "controller": "appliance.controller.main",
    "manager": "appliance.manager.main",
    "tui": "tui.app",
    "runtime": "appliance.runtime.server",
    "runtime with kernel": "appliance.runtime.supervisor:preload",
}
_CODE = """
import gc, os, sys
gc.disable()  # as the file does
sys.path[:0] = [os.environ["TREE"]]
sys.dont_write_bytecode = False
import importlib
module, _, call = sys.argv[1].partition(":")
found = importlib.import_module(module)
if call: getattr(found, call)()
"""
HOME = "/opt/appliance"
_IMAGE_CODE = f"""
import gc, os, sys
gc.disable()  # as boot.py does
sys.path[:0] = ["{HOME}/app", "{HOME}/site"]
sys.dont_write_bytecode = True
import importlib
module, _, call = sys.argv[1].partition(":")
found = importlib.import_module(module)
if call: getattr(found, call)()
"""


@dataclass(frozen=True)
class Start:
    """What one start cost."""

    wall: float
    cpu: float
    peak: int
    """MiB."""


def report(archive: Path) -> str:
    """The table, as text."""
    with tempfile.TemporaryDirectory(prefix="appliance-start-") as empty:
        environment = {"PATH": os.environ["PATH"], "HOME": empty, "SHIV_ROOT": f"{empty}/cache"}
        version = [sys.executable, str(archive), "--version"]
        rows = [("--version, cold (extracts)", _run(version, empty, environment))]
        _run(version, empty, environment)
        rows.append(("--version, warm", min((_run(version, empty, environment) for _ in range(5)), key=_wall)))
        rows.append(("--help, warm", _run([*version[:2], "--help"], empty, environment)))
        tree = next(Path(empty, "cache").glob("*/site-packages"))
        for role, module in ROLES.items():
            command = [sys.executable, "-c", _CODE, module]
            place = {**environment, "TREE": str(tree)}
            rows.append((f"{role}, first (compiles)", _run(command, empty, place)))
            rows.append((f"{role}, warm", min((_run(command, empty, place) for _ in range(2)), key=_wall)))
    return _table(rows)


def image_report(archive: Path) -> str:
    """The same for the image, entered with chroot: there everything is compiled, so there is no first time."""
    with tempfile.TemporaryDirectory(prefix="appliance-start-") as work:
        root = Path(work, "root")
        if not (child := os.fork()):  # the layers must not count as this process's memory
            _unpack(archive, root)
            Path(work, "environment").write_text(json.dumps(_environment(archive)))
            os._exit(0)
        os.waitpid(child, 0)
        enter = ["/usr/sbin/chroot", str(root)]
        commands = {"image: --version": [*enter, f"{HOME}/appliance", "--version"]}
        for role, module in ROLES.items():
            commands[f"image: {role}"] = [*enter, f"{HOME}/bin/python3", "-I", "-c", _IMAGE_CODE, module]
        environment = json.loads(Path(work, "environment").read_text())
        best = {
            name: min((_run(command, work, environment) for _ in range(3)), key=_cpu)
            for name, command in commands.items()
        }
    return _table(list(best.items()))


def _unpack(archive: Path, root: Path) -> None:
    with tarfile.open(archive) as tar:
        for layer in json.load(_member(tar, "manifest.json"))[0]["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(_member(tar, layer).read())) as inner:
                inner.extractall(root, filter="tar")


def _environment(archive: Path) -> dict[str, str]:
    """What the image sets for its processes."""
    with tarfile.open(archive) as tar:
        config = json.load(_member(tar, json.load(_member(tar, "manifest.json"))[0]["Config"]))
    return dict(entry.split("=", 1) for entry in config["config"]["Env"])


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    assert stream is not None
    return stream


def _table(rows: list[tuple[str, Start]]) -> str:
    lines = [f"{'start':<32} {'wall s':>8} {'CPU s':>8} {'peak MiB':>9}"]
    lines += [f"{name:<32} {row.wall:>8.2f} {row.cpu:>8.2f} {row.peak:>9}" for name, row in rows]
    return "\n".join(lines) + "\n"


def _wall(start: Start) -> float:
    return start.wall


def _cpu(start: Start) -> float:
    return start.cpu


def _run(command: list[str], directory: str, environment: dict[str, str]) -> Start:
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=directory, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} ended with {process.returncode}")
    return Start(wall, used.ru_utime + used.ru_stime, used.ru_maxrss // 1024)


if __name__ == "__main__":
    if sys.argv[1] == "--image":
        sys.stdout.write(image_report(Path(sys.argv[2]).absolute()))
    else:
        sys.stdout.write(report(Path(sys.argv[1]).absolute()))
