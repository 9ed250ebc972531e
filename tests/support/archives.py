"""Small images for tests: a shell, a few programs with their libraries, and a file that tells them apart."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

PROGRAMS = ("bash", "sh", "cat", "ls", "id", "sleep", "nproc")


def write_archive(path: Path, name: str, *, marker: str) -> Path:
    """A Docker archive at ``path`` of image ``name``, whose ``/etc/marker`` holds ``marker``."""
    layer = _layer(marker)
    digest = hashlib.sha256(layer).hexdigest()
    config = json.dumps(
        {"config": {"Env": [f"MARKER={marker}"]}, "rootfs": {"diff_ids": [f"sha256:{digest}"]}}
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for member, content in (("config.json", config), ("layer.tar", layer), ("manifest.json", manifest)):
            _add(tar, member, content)
    return path


def _layer(marker: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for directory in ("tmp", "etc", "usr/bin", "root"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if directory == "tmp" else 0o755
            tar.addfile(entry)
        _add(tar, "etc/passwd", b"root:x:0:0::/root:/bin/bash\n")
        _add(tar, "etc/group", b"root:x:0:\n")
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        tar.addfile(link)
        _add(tar, "etc/marker", marker.encode())
        for program in PROGRAMS:
            _add(tar, f"usr/bin/{program}", Path(_which(program)).read_bytes(), mode=0o755)
        for library in sorted({library for program in PROGRAMS for library in _libraries(_which(program))}):
            _add(tar, library.lstrip("/"), Path(library).read_bytes(), mode=0o755)
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _which(program: str) -> str:
    found = shutil.which(program)
    assert found is not None, program
    return found


def _libraries(program: str) -> list[str]:
    printed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"(/\S+) \(0x", printed)
