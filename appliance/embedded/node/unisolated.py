"""Pods of ``--isolation=process``: what stands in for a root of their own and for the freezer.

Each pod gets a home directory, and a passwd and group that name it: sandboxes of one user do not write into each
other's files by accident, although nothing keeps them from it. Pausing stops the container's whole process tree with
SIGSTOP; the runtime, a reaper of its descendants, keeps the tree together. Parents are stopped before and continued
after their children, so that no shell observes a stopped child.
"""

from __future__ import annotations

import getpass
import os
import signal
from pathlib import Path

from appliance.embedded.node.process_ids import ProcessId

_MAX_PASSES = 50
"""Scans until a pass finds nothing new; what forks faster than that is refused."""


def account(directory: Path) -> dict[str, str]:
    """Make a pod's ``etc`` and ``home`` below its directory; returns the runtime settings that point there.

    ``user``, the name SDKs use, is the agent's user too. Raises ``OSError``.
    """
    etc, home = directory / "etc", directory / "home"
    for path in (etc, home):
        path.mkdir(parents=True, exist_ok=True)
    name, uid, gid = _user_name(), os.geteuid(), os.getegid()
    lines = [f"{alias}:x:{uid}:{gid}::{home}:/bin/bash\n" for alias in dict.fromkeys((name, "user"))]
    (etc / "passwd").write_text("".join(lines))
    (etc / "group").write_text(f"{name}:x:{gid}:\n")
    return {"etc": str(etc), "default_user": name, "default_workdir": str(home)}


def _user_name() -> str:
    """The agent's user; ``user`` where its number has no name, as in containers."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return "user"


def tree(root: ProcessId) -> list[ProcessId]:
    """The process and all its living descendants, parents first; empty when it is gone."""
    if not root.alive():
        return []
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(int(name))):
            children.setdefault(parent, []).append(int(name))
    found, waiting = [root], [root.pid]
    while waiting:
        for pid in children.get(waiting.pop(0), ()):
            try:
                found.append(ProcessId.of(pid))
            except ProcessLookupError:
                continue
            waiting.append(pid)
    return found


def freeze(root: ProcessId, frozen: bool) -> None:
    """Stop or continue the tree. Raises ``OSError`` when it forks faster than it can be stopped; it then runs on."""
    if not frozen:
        for process in reversed(tree(root)):
            process.kill(signal.SIGCONT)
        return
    stopped: set[ProcessId] = set()
    for _ in range(_MAX_PASSES):
        fresh = [process for process in tree(root) if process not in stopped]
        if not fresh:
            return
        stopped.update(process for process in fresh if process.kill(signal.SIGSTOP) or not process.alive())
    freeze(root, False)
    raise OSError(11, "processes start faster than they can be stopped")


def _parent(pid: int) -> int:
    """Parent pid, 0 when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
