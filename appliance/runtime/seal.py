"""A container that is started again inside its pod is closed until the control plane has initialised it again.

A runtime without a token is open, because nobody owns it yet. But a restarted container of a claimed sandbox has an
owner, whose token died with the process that knew it. So each ``/init`` with a token leaves its SHA-256 in a file that
only root reads and that outlives the container: in the workspace volume where there is one. A runtime that finds it
serves only ``/health`` and an ``/init`` that knows the token.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)


NAME = "token.sha256"
"""The file's name in the workspace."""


def place(environ: Mapping[str, str]) -> Path | None:
    """The file in the pod's workspace volume, None without one."""
    workspace = environ.get("AGENT_RUNTIME_WORKSPACE")
    return Path(workspace) / NAME if workspace else None


def digest(token: str) -> str:
    """What is kept of a token: it is random and long, so its plain hash gives nothing away."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read(file: Path | None) -> str | None:
    """The digest an earlier runtime of this pod left, None when there was none."""
    if file is None:
        return None
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return file.read_text(encoding="ascii") or None
    return None


def write(file: Path | None, token: str) -> None:
    """Leave the digest of ``token``. A place that cannot be written to is logged: a restart is then open until init."""
    if file is None:
        return
    fresh = file.with_name(f"{file.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(fresh, flags, 0o600), "w", encoding="ascii") as written:
            written.write(digest(token))
        fresh.replace(file)
    except OSError as error:
        log.warning("the access token's digest is not kept: %s", error)
