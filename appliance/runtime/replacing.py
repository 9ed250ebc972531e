"""Files of the sandbox that are replaced whole."""

from __future__ import annotations

import os
from pathlib import Path


def put(path: Path, text: str) -> None:
    """Replace the file, for all to read: nobody sees half of it, and what a user put there, say a link, is replaced.

    Raises ``OSError``.
    """
    fresh = path.with_name(f".{path.name.removeprefix('.')}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.chmod(0o644)
    fresh.replace(path)
