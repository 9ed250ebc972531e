"""What ``namespaces`` isolation needs from the box, checked before anything is touched, named when it is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from appliance.embedded.node.cgroups import Hierarchy

_CAP_SYS_ADMIN, _CAP_NET_ADMIN, _CAP_SETUID = 21, 12, 7
ADVICE = (
    "start with --isolation=process instead, which isolates nothing: only for code you trust "
    "(as an ordinary user also with a --data-dir of yours)"
)


class NotPossible(RuntimeError):
    """The box lacks something; the text lists all of it and the way out."""


def privileges() -> None:
    """What can be told before anything else is looked at. Raises ``NotPossible`` with every missing privilege."""
    missing = _missing_privileges()
    if missing:
        raise _not_possible(missing)


def _missing_privileges() -> list[str]:
    missing: list[str] = []
    effective = _capabilities()
    for bit, name in (
        (_CAP_SYS_ADMIN, "CAP_SYS_ADMIN"),
        (_CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        (_CAP_SETUID, "CAP_SETUID"),
    ):
        if not effective >> bit & 1:
            missing.append(f"{name} (run as root)")
    return missing


def _not_possible(missing: list[str]) -> NotPossible:
    return NotPossible(f"isolation=namespaces is not possible here, missing: {'; '.join(missing)}. Or {ADVICE}.")


def check(cgroup_name: str) -> Hierarchy:
    """Raises ``NotPossible`` with everything that is missing."""
    missing = _missing_privileges()
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    if shutil.which("nft", path=path) is None:
        missing.append("the program nft (package nftables)")
    filesystems = Path("/proc/filesystems").read_text().split()
    if "overlay" not in filesystems and not Path("/sys/module/overlay").exists():
        missing.append("the overlay file system (modprobe overlay)")
    kinds = ("user", "net", "pid", "mnt")
    missing.extend(f"{kind} namespaces in the kernel" for kind in kinds if not Path("/proc/self/ns", kind).exists())
    hierarchy: Hierarchy | None = None
    try:
        hierarchy = Hierarchy.find(Path("/proc/self/mountinfo").read_text(), cgroup_name)
        if not missing:  # a refusal touches nothing
            hierarchy.prepare()
    except OSError as error:
        missing.append(f"writable control groups ({error})")
    if missing or hierarchy is None:
        raise _not_possible(missing)
    return hierarchy


def _capabilities() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
