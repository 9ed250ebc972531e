#!/usr/bin/python3 -I
"""runc for a Docker whose own root lacks capabilities, as in some virtual machines.

`--privileged` asks for all of them, the kernel refuses those that are not there, and no container starts. What is asked
for is cut down to what there is; where nothing is missing, nothing changes. `private.sh` names it by `--add-runtime`.
"""

import itertools
import json
import os
import shutil
import sys
from pathlib import Path

NAMES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
)
"""The kernel's names by their bits."""


def available() -> set[str]:
    """Names of the capabilities that a child of this process can have."""
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    bits = int(status["CapBnd"], 16)
    return {f"CAP_{name}" for bit, name in enumerate(NAMES.split()) if bits >> bit & 1}


def cut(process: dict[str, object], there: set[str]) -> None:
    """Take out of an OCI process what is not there."""
    asked = process.get("capabilities")
    if isinstance(asked, dict):
        for kind, names in asked.items():
            asked[kind] = [name for name in names if name in there]


def rewrite(words: list[str], there: set[str]) -> None:
    """Change the files that a runc command names: the bundle of a new container, the process of an ``exec``."""
    for flag, value in itertools.pairwise(words):
        path = Path(value, "config.json") if flag == "--bundle" else Path(value)
        if flag in ("--bundle", "--process", "-p") and path.is_file():
            document = json.loads(path.read_text())
            cut(document["process"] if flag == "--bundle" else document, there)
            path.write_text(json.dumps(document))


if __name__ == "__main__":
    rewrite(sys.argv[1:], available())
    real = shutil.which("runc", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin")
    if real is None:
        sys.exit("runc.py: runc is not in PATH")
    os.execv(real, ["runc", *sys.argv[1:]])
