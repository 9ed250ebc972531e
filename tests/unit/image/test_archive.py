"""Archives that are damaged anywhere are refused by name, in both formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from appliance.embedded.node.images import Library
from appliance.image import oci
from appliance.image.archive import BadArchive, verify

NAME = "docker.io/library/it:1"


def pack(path: Path, members: dict[str, bytes]) -> Path:
    """A tar of these files."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def unpack(path: Path) -> dict[str, bytes]:
    """Name → contents."""
    found = {}
    with tarfile.open(path) as tar:
        for entry in tar:
            if (stream := tar.extractfile(entry)) is not None:
                found[entry.name] = stream.read()
    return found


@pytest.fixture(params=["oci", "docker"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A good archive of two layers, in each format."""
    layers = [oci.layer({"a": b"1" * 3000}, "a"), oci.layer({"b": b"2" * 3000}, "b")]
    target = tmp_path / "image.tar"
    oci.write(target, NAME, layers, {"Entrypoint": ["/a"]}, "x86_64")
    if request.param == "oci":
        return target
    parts = unpack(target)
    config = parts[json.loads(parts["manifest.json"])[0]["Config"]]
    name = hashlib.sha256(config).hexdigest() + ".json"
    members = {f"{number}/layer.tar": gzip.decompress(layer.data) for number, layer in enumerate(layers)}
    listed = [{"Config": name, "RepoTags": [NAME], "Layers": list(members)}]
    return pack(target, {**members, name: config, "manifest.json": json.dumps(listed).encode()})


def test_a_whole_archive_passes(archive: Path) -> None:
    """Every digest holds, and the image's name is told."""
    assert verify(archive) == [NAME]


def test_every_truncation_is_noticed(archive: Path) -> None:
    """Wherever the copy stopped, the file is named and refused; only the padding behind the end may be missing."""
    data = archive.read_bytes()
    with tarfile.open(archive) as tar:
        end = max(member.offset_data + member.size for member in tar)
    for length in range(0, end, 499):
        archive.write_bytes(data[:length])
        with pytest.raises(BadArchive, match=archive.name):
            verify(archive)


def test_every_changed_part_is_noticed(archive: Path) -> None:
    """One bit in any file that counts, or a file that is not there, is refused; nothing of it is loaded."""
    parts = unpack(archive)
    for name, data in parts.items():
        without = {other: contents for other, contents in parts.items() if other != name}
        flipped = bytes([data[0] ^ 1]) + data[1:]
        spare = {"index.json", "manifest.json"} - {name} if name in ("index.json", "manifest.json") else set()
        for members in (without, {**parts, name: flipped}):
            if members is without and spare & set(without):
                continue  # the other list of the same image is enough
            pack(archive, members)
            library = Library(archive.parent / "images")
            with pytest.raises(BadArchive, match=archive.name):
                library.load(archive)
            assert library.resolve(NAME) is None


@pytest.mark.parametrize(
    "members", [{}, {"x": b""}, {"index.json": b"[]"}, {"manifest.json": b'[{"Config": "x"}]'}, {"index.json": b"{}"}]
)
def test_what_is_something_else_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    """A tar that is no image archive is said to be none."""
    with pytest.raises(BadArchive, match=r"image archive|is missing"):
        verify(pack(tmp_path / "other.tar", members))
