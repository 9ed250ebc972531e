"""Whether an image archive, OCI or Docker, is whole: every part it names is there and has the digest it is known by.

OCI archives name their parts by digest. Docker's older ones do not, but their configuration holds the digest of every
unpacked layer, and is itself named by its own. So damage anywhere is found, and named, before anything is used.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{64})")
_CONFIG = re.compile(r"([0-9a-f]{64})\.json")
_CHUNK = 1 << 20
_MAX_JSON = 16 << 20
"""Bytes of an index, manifest or configuration; larger ones are refused."""


class BadArchive(ValueError):
    """The file is no image archive that can be used; the text names the file and says what is wrong."""


def verify(archive: Path) -> list[str]:
    """The names of the images inside, after every part was checked.

    Raises:
        BadArchive: it is no image archive, or truncated, or a part is missing or not what its digest says.
        OSError: it cannot be read.
    """
    try:
        with tarfile.open(archive) as tar:
            return _Check(tar).run()
    except BadArchive as error:
        raise BadArchive(f"{archive}: {error}") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise BadArchive(f"{archive}: not an OCI or Docker image archive, or damaged ({_first(error)})") from error
    except (KeyError, TypeError, AttributeError, IndexError, json.JSONDecodeError) as error:
        raise BadArchive(f"{archive}: not an OCI or Docker image archive ({error!r})") from error


class _Check:
    """One pass over one archive."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._members = {member.name.removeprefix("./"): member for member in tar.getmembers()}

    def run(self) -> list[str]:
        for name, member in self._members.items():
            if member.isfile() and (match := _BLOB.fullmatch(name) or _CONFIG.fullmatch(name)):
                self._digest(name, match[1])
        names: list[str] = []
        if "index.json" in self._members:
            self._json("oci-layout")
            for descriptor in self._json("index.json")["manifests"]:
                names += self._described(descriptor)
        if "manifest.json" in self._members:
            names = [name for entry in self._json("manifest.json") for name in self._docker(entry)] or names
        elif "index.json" not in self._members:
            raise BadArchive("neither index.json nor manifest.json is inside: no image archive")
        return names

    def _described(self, descriptor: dict[str, Any]) -> Iterator[str]:
        """A manifest, or an index of them; what other platforms need may be left out, as exporters do."""
        notes = descriptor.get("annotations") or {}
        if name := notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name"):
            yield name
        manifest = self._json(self._part(descriptor))
        if "manifests" in manifest:
            inner = [one for one in manifest["manifests"] if _path(one) in self._members]
            if not inner:
                raise BadArchive(f"{_path(descriptor)} lists images of which none is inside")
            for one in inner:
                yield from self._described(one)
            return
        for one in (manifest["config"], *manifest["layers"]):
            self._part(one)

    def _part(self, descriptor: dict[str, Any]) -> str:
        path = _path(descriptor)
        member = self._members.get(path)
        if member is None:
            raise BadArchive(f"{path} is missing: truncated? copy it again")
        if member.size != descriptor.get("size", member.size):
            raise BadArchive(f"{path} has {member.size} bytes, expected {descriptor['size']}: damaged; copy it again")
        return path

    def _docker(self, entry: dict[str, Any]) -> list[str]:
        config = self._json(entry["Config"])
        expected = config["rootfs"]["diff_ids"]
        if len(expected) != len(entry["Layers"]):
            raise BadArchive(f"{entry['Config']} names {len(expected)} layers, the archive has {len(entry['Layers'])}")
        for name, digest in zip(entry["Layers"], expected, strict=True):
            if name.removeprefix("./") not in self._members:
                raise BadArchive(f"{name} is missing: truncated? copy it again")
            if not _BLOB.fullmatch(name):
                self._digest(name, digest.removeprefix("sha256:"), unpacked=True)
        return list(entry.get("RepoTags") or [])

    def _open(self, name: str) -> IO[bytes]:
        member = self._members.get(name.removeprefix("./"))
        stream = None if member is None else self._tar.extractfile(member)
        if stream is None:
            raise BadArchive(f"{name} is missing: truncated? copy it again")
        return stream

    def _digest(self, name: str, expected: str, unpacked: bool = False) -> None:
        made = hashlib.sha256()
        with self._open(name) as raw:
            packed = unpacked and raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            stream: Any = gzip.GzipFile(fileobj=io.BufferedReader(raw)) if packed else raw  # type: ignore[type-var]
            while chunk := stream.read(_CHUNK):
                made.update(chunk)
        if made.hexdigest() != expected:
            raise BadArchive(f"{name} is not what its digest says: damaged or tampered with; do not use it")

    def _json(self, name: str) -> Any:
        with self._open(name) as stream:
            return json.loads(stream.read(_MAX_JSON))


def _first(error: BaseException) -> str:
    """The start of a message: tarfile lists what every decompressor thinks of the file."""
    return str(error).partition(":\n")[0]


def _path(descriptor: dict[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")
