"""An image archive that Docker, containerd, skopeo, crane and kind accept: OCI layout and Docker's manifest in one tar.

Deterministic: names sorted, owners 0, times ``SOURCE_DATE_EPOCH`` (default 0), gzip without a name. The same layers
give the same digests, so a new version of the application changes one small layer of an image that nodes have.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_ARCHITECTURES = {"x86_64": "amd64"}


@dataclass(frozen=True)
class Layer:
    """One compressed layer."""

    data: bytes
    diff_id: str
    """Digest of the uncompressed tar."""
    comment: str

    @property
    def digest(self) -> str:
        """Digest of the compressed data."""
        return digest(self.data)


def digest(data: bytes) -> str:
    """``sha256:…`` of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def architecture(machine: str) -> str:
    """The image's name for a machine. Raises ``ValueError`` for one that no image can be built for."""
    if machine not in _ARCHITECTURES:
        raise ValueError(f"no image can be built on {machine} machines; supported: {', '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[machine]


def layer(entries: dict[str, Path | bytes | None], comment: str) -> Layer:
    """A layer of ``name → file, contents or None (a directory)``; parent directories are added."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(_with_parents(entries)):
            _add(tar, name, entries.get(name))
    data = raw.getvalue()
    return Layer(gzip.compress(data, 6, mtime=0), digest(data), comment)


def _with_parents(entries: dict[str, Path | bytes | None]) -> set[str]:
    return {str(parent) for name in entries for parent in Path(name).parents if str(parent) != "."} | set(entries)


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes | None) -> None:
    info = tarfile.TarInfo(name)
    info.mtime = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    info.mode, info.uname, info.gname = 0o644, "root", "root"
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
        tar.addfile(info)
        return
    if isinstance(content, Path):
        info.mode = 0o755 if content.stat().st_mode & 0o100 else 0o644
        content = content.read_bytes()
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write(target: Path, name: str, layers: list[Layer], settings: dict[str, Any], machine: str) -> str:
    """Write the archive and return the image's digest. ``settings`` is the ``config`` part (Entrypoint, Env, …)."""
    config = _encode({
        "architecture": architecture(machine),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [one.diff_id for one in layers]},
        "history": [{"created_by": one.comment} for one in layers],
    })  # fmt: skip
    manifest = _encode({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _descriptor(CONFIG, config),
        "layers": [_descriptor(LAYER, one.data) for one in layers],
    })  # fmt: skip
    notes = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [{**_descriptor(MANIFEST, manifest), "annotations": notes}]}
    docker = [{"Config": _blob(config), "RepoTags": [name], "Layers": [_blob(one.data) for one in layers]}]
    files = {_blob(data): data for data in (config, manifest, *(one.data for one in layers))}
    files |= {"oci-layout": _encode({"imageLayoutVersion": "1.0.0"}), "index.json": _encode(index)}
    files["manifest.json"] = _encode(docker)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with tarfile.open(fresh, "w", format=tarfile.GNU_FORMAT) as tar:
            for member in sorted(_with_parents(dict(files))):
                _add(tar, member, files.get(member))
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
    return digest(manifest)


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest(data), "size": len(data)}


def _blob(data: bytes) -> str:
    return "blobs/" + digest(data).replace(":", "/")


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
