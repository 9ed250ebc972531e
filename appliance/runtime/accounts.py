"""The account that commands run as, in images that do not have it.

E2B's own images have a user named ``user``; ``python:3.12-slim`` and most others do not, and then no command could run.
So it is added where a container starts: a line in passwd and group, a home of its own, no rights beyond those of any
user. Where that cannot be done (not root, a read-only root) things stay as they are, and say so when asked. Only those
who know that they are in a container call this; a runtime started by hand leaves its machine alone.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

FIRST = 1000
"""First id that is tried; Linux distributions give it to the first person."""
_SHELLS = ("/bin/bash", "/bin/sh")


def ensure(name: str | None, root: Path = Path("/")) -> bool:
    """Add the account if it is missing; whether it was added. Never raises for what the image does not allow."""
    if name is None or name.isdigit() or os.geteuid() != 0:
        return False
    passwd, group = root / "etc/passwd", root / "etc/group"
    try:
        if name in _column(passwd, 0):
            return False
        number = _free(_column(passwd, 2) | _column(group, 2))
        home = root / "home" / name
        passwd.parent.mkdir(exist_ok=True)
        home.mkdir(parents=True, exist_ok=True)
        os.chown(home, number, number)
        shell = next((one for one in _SHELLS if (root / one.lstrip("/")).exists()), _SHELLS[-1])
        _append(group, f"{name}:x:{number}:")
        _append(passwd, f"{name}:x:{number}:{number}::/home/{name}:{shell}")
    except OSError as error:
        log.warning("the image has no user %r and it cannot be added: %s", name, error)
        return False
    return True


def _column(path: Path, number: int) -> set[str]:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return set()
    return {fields[number] for line in lines if len(fields := line.split(":")) > number}


def _free(taken: set[str]) -> int:
    return next(number for number in range(FIRST, 60_000) if str(number) not in taken)


def _append(path: Path, line: str) -> None:
    before = path.read_text(errors="replace") if path.exists() else ""
    with path.open("a") as file:
        file.write(("\n" if before and not before.endswith("\n") else "") + line + "\n")
