"""What a process holds: descriptors and memory, as the kernel counts them; and the runtime inside a sandbox."""

from __future__ import annotations

import os
from pathlib import Path

from e2b import Sandbox


def descriptors(pid: int) -> int:
    """Open descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def pss(pid: int) -> int:
    """Proportional set size of a process, in bytes: shared pages count by their share."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no Pss of {pid}")


def runtime_of(sandbox: Sandbox) -> int:
    """The box's pid of the runtime's server inside a sandbox."""
    space = sandbox.commands.run("readlink /proc/self/ns/pid").stdout.strip()
    for name in Path("/proc").glob("[0-9]*/comm"):
        try:
            if name.read_text() == "runtime\n" and str((name.parent / "ns/pid").readlink()) == space:
                return int(name.parent.name)
        except OSError:  # ended meanwhile
            continue
    raise AssertionError(f"no runtime in {space}")


def parent_of(pid: int) -> int:
    """The parent's pid."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
