"""The files by which programs recognise a sandbox of the original service and read its ids without its environment.

``/run/e2b/.E2B_SANDBOX``, ``.E2B_SANDBOX_ID``, ``.E2B_TEMPLATE_ID`` hold one value each, ``/.e2b`` has ``ENV_ID`` and
``TEMPLATE_ID`` as lines. Written after each ``/init``. ``BUILD_ID``, the third line of the original, is left out: the
runtime does not know it. Source: contract §2.8.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from appliance.runtime.replacing import put

log = logging.getLogger(__name__)

_NAMES: Final = ("E2B_SANDBOX", "E2B_SANDBOX_ID", "E2B_TEMPLATE_ID")


def write(root: Path, env: Mapping[str, str]) -> None:
    """Write the files below ``root``. A root that cannot be written to is logged and left: nothing depends on them."""
    try:
        directory = root / "run" / "e2b"
        directory.mkdir(parents=True, exist_ok=True)
        for name in _NAMES:
            if name in env:
                put(directory / f".{name}", env[name])
        if template := env.get("E2B_TEMPLATE_ID"):
            put(root / ".e2b", f"ENV_ID={template}\nTEMPLATE_ID={template}\n")
    except OSError as error:
        log.warning("marker files are not written: %s", error)
