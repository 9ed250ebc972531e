"""The files by which programs recognise a sandbox of the original service and read its ids without its environment.

``/run/e2b/.E2B_SANDBOX``, ``.E2B_SANDBOX_ID``, ``.E2B_TEMPLATE_ID`` hold one value each, ``/.e2b`` has ``ENV_ID`` and
``TEMPLATE_ID`` as lines. Written after each ``/init``. ``BUILD_ID``, the third line of the original, is left out: the
runtime does not know it. Source: contract §2.8.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_NAMES: Final = ("E2B_SANDBOX", "E2B_SANDBOX_ID", "E2B_TEMPLATE_ID")


def write(root: Path, env: Mapping[str, str]) -> None:
    """Write the files below ``root``. A root that cannot be written to is logged and left: nothing depends on them."""
    try:
        directory = root / "run" / "e2b"
        directory.mkdir(parents=True, exist_ok=True)
        for name in _NAMES:
            if name in env:
                _put(directory / f".{name}", env[name])
        if template := env.get("E2B_TEMPLATE_ID"):
            _put(root / ".e2b", f"ENV_ID={template}\nTEMPLATE_ID={template}\n")
    except OSError as error:
        log.warning("marker files are not written: %s", error)


def _put(path: Path, text: str) -> None:
    """Replace the file: what a user put there, a link for example, is not followed."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)
