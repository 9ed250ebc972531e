"""What ps shows for the processes of a sandbox."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from appliance.runtime.supervise import child, title


def _shown(pid: int) -> tuple[bytes, str]:
    process = Path(f"/proc/{pid}")
    return (process / "cmdline").read_bytes(), (process / "comm").read_text()


def test_forked_processes_have_titles_of_their_own(sandbox: Any) -> None:
    """Supervisor, server and kernel say what they are, and nothing of the command line they were forked from."""
    shown = [_shown(pid) for pid in (sandbox.process.pid, *sandbox.children)]
    assert shown == [
        (b"appliance: sandbox\0", "sandbox\n"),
        (b"appliance: runtime\0", "runtime\n"),
        (b"appliance: python kernel\0", "python-kernel\n"),
    ]


def test_a_title_leaves_the_environment_alone() -> None:
    """The environment lies behind the command line in memory and must stay readable, however long the title is."""
    reading, writing = os.pipe()

    def body() -> None:
        before = Path("/proc/self/environ").read_bytes()
        title.show("t" * 100_000, "long-name-that-is-cut")
        same = Path("/proc/self/environ").read_bytes() == before and os.environ["PATH"] == os.getenv("PATH")
        os.write(writing, b"same" if same else b"different")

    pid = child.fork(body)
    os.close(writing)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.read(reading, 100) == b"same"
    os.close(reading)
