"""A read-only image registry over a directory of OCI archives: ``registry.py HOST:PORT DIRECTORY``.

Archives are indexed by the name in their ``index.json``; the registry part of a name is left out, since containerd asks
its mirror by repository alone. New files are seen at the next request. Unknown names are 404, as in any registry.
"""

from __future__ import annotations

import json
import sys
import tarfile
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Blob:
    """Bytes of an archive."""

    archive: Path
    offset: int
    size: int
    media: str


class Shelf:
    """What the archives hold."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._seen: dict[Path, int] = {}
        self._names: dict[str, str] = {}
        self._blobs: dict[str, Blob] = {}

    def find(self, repository: str, reference: str) -> tuple[str, Blob] | None:
        """Digest and bytes of a manifest (by tag or digest) or a blob (by digest)."""
        self._look()
        digest = reference if reference.startswith("sha256:") else self._names.get(f"{repository}:{reference}", "")
        blob = self._blobs.get(digest)
        return None if blob is None else (digest, blob)

    def _look(self) -> None:
        for path in sorted(self._directory.glob("*.tar")):
            changed = path.stat().st_mtime_ns
            if self._seen.get(path) != changed:
                self._read(path)
                self._seen[path] = changed

    def _read(self, path: Path) -> None:
        with tarfile.open(path) as tar:
            members = {member.name: member for member in tar if member.isfile()}
            stream = tar.extractfile(members["index.json"])
            assert stream is not None
            index: dict[str, Any] = json.load(stream)
        media = {manifest["digest"]: manifest["mediaType"] for manifest in index["manifests"]}
        for name, member in members.items():
            if name.startswith("blobs/sha256/"):
                digest = f"sha256:{name.rpartition('/')[2]}"
                kind = media.get(digest, "application/octet-stream")
                self._blobs[digest] = Blob(path, member.offset_data, member.size, kind)
        for manifest in index["manifests"]:
            registry, _, rest = manifest["annotations"]["io.containerd.image.name"].partition("/")
            self._names[rest if "." in registry or ":" in registry else f"{registry}/{rest}"] = manifest["digest"]


class Handler(BaseHTTPRequestHandler):
    """``GET|HEAD /v2/<repository>/(manifests|blobs)/<reference>``."""

    shelf: Shelf
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        """Without the body."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """With it."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        parts = self.path.partition("?")[0].removeprefix("/v2/").split("/")
        if parts == [""]:
            return self._say(200, b"{}")
        found = self.shelf.find("/".join(parts[:-2]), parts[-1]) if parts[-2:-1] in (["manifests"], ["blobs"]) else None
        if found is None:
            code = "MANIFEST_UNKNOWN" if "manifests" in parts else "BLOB_UNKNOWN"
            return self._say(404, json.dumps({"errors": [{"code": code, "message": "not on this shelf"}]}).encode())
        digest, blob = found
        self.send_response(200)
        self.send_header("Content-Type", blob.media)
        self.send_header("Content-Length", str(blob.size))
        self.send_header("Docker-Content-Digest", digest)
        self.end_headers()
        if body:
            with blob.archive.open("rb") as stream:
                stream.seek(blob.offset)
                left = blob.size
                while left and (chunk := stream.read(min(left, 1 << 20))):
                    self.wfile.write(chunk)
                    left -= len(chunk)
        return None

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> None:
    """Serve until killed."""
    host, port = sys.argv[1].split(":")
    Handler.shelf = Shelf(Path(sys.argv[2]))
    ThreadingHTTPServer((host, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
