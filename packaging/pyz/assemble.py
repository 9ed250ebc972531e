"""Packs a tree into ``appliance.pyz`` with shiv's builder and puts our ``__main__`` in front.

Same tree, same bytes: every time stamp is ``SOURCE_DATE_EPOCH`` (default: 1980, the oldest a zip knows), names are
sorted, and the build id is shiv's digest of names and contents.
"""

from __future__ import annotations

import os
import platform
import time
import zipfile
from pathlib import Path

from shiv import __version__ as shiv_version
from shiv.bootstrap.environment import Environment
from shiv.builder import create_archive
from shiv.constants import BUILD_AT_TIMESTAMP_FORMAT

from pyz.collect import VERSIONS
from pyz.prologue import _directory

OLDEST_ZIP_TIME = 315532800
INTERPRETER = "/usr/bin/env python3"
TRUNCATED = b"This copy of the file is incomplete: copy it again \0\n"
"""The second line. A zip's directory is at its end; a file that lost it is read as a script, and refused with the line
that holds a NUL (since Python 3.11.4; older ones only name the file)."""


def assemble(tree: Path, target: Path) -> str:
    """Write ``target`` and return its build id."""
    when = max(int(os.environ.get("SOURCE_DATE_EPOCH", OLDEST_ZIP_TIME)), OLDEST_ZIP_TIME)
    built_at = time.strftime(BUILD_AT_TIMESTAMP_FORMAT, time.gmtime(when))
    environment = Environment(
        built_at=built_at, shiv_version=shiv_version, compile_pyc=False, entry_point="appliance.cli:main"
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    plain = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        create_archive([tree], plain, INTERPRETER, "_bootstrap:bootstrap", environment)
        assert environment.build_id is not None
        _own_main(plain, environment.build_id[:16])
        plain.chmod(0o755)
        plain.replace(target)
    finally:
        plain.unlink(missing_ok=True)
    return str(environment.build_id)


def _own_main(path: Path, build_id: str) -> None:
    """Copy the archive with our ``__main__``, and what it extracts and cleans with, instead of shiv's."""
    ours = Path(__file__).parent
    fresh = path.with_name(path.name + ".main")
    with zipfile.ZipFile(path) as old, fresh.open("wb") as file:
        file.write(f"#!{INTERPRETER}\n".encode() + TRUNCATED)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as new:
            stamp = old.getinfo("__main__.py").date_time
            for name in ("unpack", "sweep"):
                _entry(new, f"_{name}.py", (ours / f"{name}.py").read_bytes(), stamp, 0o644)
            for entry in old.infolist():
                if entry.filename != "__main__.py":
                    _entry(new, entry.filename, old.read(entry), stamp, (entry.external_attr >> 16) & 0o777)
            source = (ours / "prologue.py").read_text()
            filled = {"BUILD_ID": build_id, "VERSIONS": " ".join(VERSIONS), "MACHINE": platform.machine()}
            for name, value in {**filled, "DIRECTORY": _directory(new)}.items():
                source = source.replace(f"@{name}@", value)
            _entry(new, "__main__.py", source.encode(), stamp, 0o644)
    fresh.replace(path)


def _entry(
    archive: zipfile.ZipFile, name: str, data: bytes, stamp: tuple[int, int, int, int, int, int], mode: int
) -> None:
    info = zipfile.ZipInfo(name, date_time=stamp)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (0o100000 | (mode or 0o644)) << 16
    archive.writestr(info, data)
