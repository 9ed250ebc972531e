"""Images: ``host`` for every name nobody loaded, or layers of an OCI or Docker archive under ``node/images/``.

``load`` unpacks each layer once, by digest, with overlayfs whiteouts, and notes name, layers and configuration.
Layers keep the archive's numbers for owners; sandboxes see them through their id maps. An image that is replaced
keeps its old layers until nothing refers to them (``prune``).
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from appliance.api.imagenames import normal
from appliance.image.archive import BadArchive, verify

Json = dict[str, Any]
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


class Image(msgspec.Struct, frozen=True):
    """A loaded image."""

    name: str
    layers: tuple[str, ...]
    """Directories, uppermost first."""
    env: dict[str, str] = {}
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""


class Library:
    """The images of one node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def resolve(self, name: str) -> Image | None:
        """The loaded image, None: ``host``."""
        if not name:
            return None
        try:
            return msgspec.json.decode(self._note(normal(name)).read_bytes(), type=Image)
        except (OSError, msgspec.MsgspecError):
            return None

    def _note(self, name: str) -> Path:
        return self._directory / "names" / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"

    def load(self, archive: Path, name: str | None = None) -> list[str]:
        """Load every image of a tar file, once it is found whole; returns names. Raises ``BadArchive``, ``OSError``."""
        verify(archive)
        try:
            with tarfile.open(archive) as tar:
                found = list(self._manifests(tar))
                loaded = [
                    self._load_one(tar, given or ([name] if name else []), config, layers)
                    for given, config, layers in found
                ]
        except (tarfile.TarError, KeyError, msgspec.MsgspecError) as error:
            raise BadArchive(f"{archive}: not an OCI or Docker image archive ({error})") from error
        return [entry for names in loaded for entry in names]

    def _manifests(self, tar: tarfile.TarFile) -> Iterator[tuple[list[str], str, list[str]]]:
        """(names, config member, layer members) of every image inside."""
        members = set(tar.getnames())
        if "manifest.json" in members:
            for entry in _json(tar, "manifest.json"):
                yield list(entry.get("RepoTags") or []), entry["Config"], list(entry["Layers"])
            return
        for descriptor in _json(tar, "index.json")["manifests"]:
            notes = descriptor.get("annotations") or {}
            name = notes.get("io.containerd.image.name") or notes.get("org.opencontainers.image.ref.name")
            manifest = _json(tar, _blob(descriptor))
            if "manifests" in manifest:  # an index per platform: the first one for this machine
                wanted = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
                inner = [m for m in manifest["manifests"] if (m.get("platform") or {}).get("architecture") == wanted]
                manifest = _json(tar, _blob(inner[0] if inner else manifest["manifests"][0]))
            yield [name] if name else [], _blob(manifest["config"]), [_blob(layer) for layer in manifest["layers"]]

    def _load_one(self, tar: tarfile.TarFile, names: list[str], config_member: str, layers: list[str]) -> list[str]:
        if not names:
            raise BadArchive("the archive names no image; give a name")
        config = (_json(tar, config_member).get("config")) or {}
        paths = tuple(str(self._unpack(tar, member)) for member in reversed(layers))
        env = dict(str(entry).partition("=")[::2] for entry in config.get("Env") or [])
        (self._directory / "names").mkdir(parents=True, exist_ok=True)
        for name in names:
            image = Image(
                normal(name), paths, env, tuple(config.get("Entrypoint") or ()), tuple(config.get("Cmd") or ()),
                config.get("WorkingDir") or "", config.get("User") or "",
            )  # fmt: skip
            fresh = self._note(normal(name)).with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(image))
            fresh.rename(self._note(normal(name)))
        return [normal(name) for name in names]

    def _unpack(self, tar: tarfile.TarFile, member: str) -> Path:
        stream = tar.extractfile(member)
        if stream is None:
            raise BadArchive(f"{member}: expected a file")
        digest = hashlib.sha256()
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
        target = self._directory / "layers" / digest.hexdigest()
        if target.exists():
            return target
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        try:
            stream.seek(0)
            _extract(stream, fresh)
            fresh.rename(target)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        return target


def _json(tar: tarfile.TarFile, member: str) -> Any:
    stream = tar.extractfile(member)
    if stream is None:
        raise BadArchive(f"{member}: expected a file")
    return msgspec.json.decode(stream.read(16 * 1024 * 1024))


def _blob(descriptor: Json) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _extract(stream: Any, target: Path) -> None:
    """One layer. Names that leave the directory are refused by tarfile's filter; owners and setuid bits are kept."""
    head = stream.read(4)
    stream.seek(0)
    if head == b"\x28\xb5\x2f\xfd":
        raise BadArchive("a layer is compressed with zstd; save the image with gzip layers")
    with tarfile.open(fileobj=io.BufferedReader(stream), mode="r:*") as layer:
        for entry in layer:
            folder, _, base = entry.name.rstrip("/").rpartition("/")
            if base == _OPAQUE:
                # Root and the kernel's own prefix: overlayfs reads trusted.* of a lower layer.
                os.setxattr(_inside(target, folder), "trusted.overlay.opaque", b"y")
            elif base.startswith(_WHITEOUT):
                os.mknod(_inside(target, folder) / base.removeprefix(_WHITEOUT), stat.S_IFCHR, os.makedev(0, 0))
            elif not entry.isdev():
                layer.extract(entry, target, numeric_owner=True, filter=_checked)


def _checked(entry: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    tarfile.tar_filter(entry, path)  # raises for absolute names and names outside; its changed copy is not wanted
    return entry


def _inside(target: Path, folder: str) -> Path:
    path = target / folder.lstrip("/")
    path.mkdir(parents=True, exist_ok=True)
    if not path.resolve().is_relative_to(target.resolve()):
        raise BadArchive(f"{folder}: leads out of the layer")
    return path


def load_command(data_dir: Path, archive: Path, name: str | None = None) -> int:
    """``appliance image load``: into the node of ``data_dir``, running or not; prints names, returns exit status."""
    names = Library(data_dir / "node" / "images").load(Path(archive), name)
    sys.stdout.write("".join(f"loaded {loaded}\n" for loaded in names))
    return 0
