"""Root file systems to image archives: ``archive.py NAME:TAG TAR OUTPUT [CONFIG-JSON]`` (OCI layout, one layer).

For images that are made without Docker: by ``debootstrap`` (``code-interpreter.sh``) or of a few files (tests). The
layer is the given tar as it is, so owners, modes and links are kept; containerd, Docker and kind load the result.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import sys
import tarfile
from pathlib import Path
from typing import Any

_OCI = "application/vnd.oci.image"


def pack(name: str, layer: Path, output: Path, config: dict[str, Any]) -> None:
    """Write the archive; ``config`` is the image's run configuration (Cmd, Env, User, …)."""
    digest = _digest_of(layer)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    settings = _json({"architecture": machine, "os": "linux", "config": config, "rootfs": rootfs, "history": [{}]})
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _described(f"{_OCI}.config.v1+json", settings),
            "layers": [
                {"mediaType": f"{_OCI}.layer.v1.tar", "digest": f"sha256:{digest}", "size": layer.stat().st_size}
            ],
        }
    )
    notes = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {
        "schemaVersion": 2,
        "manifests": [{**_described(f"{_OCI}.manifest.v1+json", manifest), "annotations": notes}],
    }
    docker = [{"Config": _blob(settings), "RepoTags": [name], "Layers": [f"blobs/sha256/{digest}"]}]
    fresh = output.with_name(f".{output.name}.part")
    with tarfile.open(fresh, "w", format=tarfile.GNU_FORMAT) as tar:
        for path, data in {
            "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
            "index.json": _json(index),
            "manifest.json": _json(docker),
            _blob(settings): settings,
            _blob(manifest): manifest,
        }.items():
            tar.addfile(_member(path, len(data)), io.BytesIO(data))
        with layer.open("rb") as stream:
            tar.addfile(_member(f"blobs/sha256/{digest}", layer.stat().st_size), stream)
    fresh.replace(output)


def _member(path: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, 0o644
    return info


def _digest_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _described(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _blob(data: bytes) -> str:
    return f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


if __name__ == "__main__":
    pack(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]) if len(sys.argv) > 4 else {})
