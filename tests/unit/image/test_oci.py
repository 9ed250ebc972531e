"""The archive format."""

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


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An image of two layers."""
    program = tmp_path / "program"
    program.write_text("run me")
    program.chmod(0o700)
    layers = [
        oci.layer({"etc/passwd": b"root", "tmp": None}, "base"),
        oci.layer({"opt/it/program": program}, "application"),
    ]
    target = tmp_path / "image.tar"
    oci.write(target, "docker.io/library/it:1", layers, {"Entrypoint": ["/opt/it/program"], "User": "5:5"}, "x86_64")
    return target


def test_every_digest_and_size_in_the_archive_is_true(archive: Path) -> None:
    """Index, manifest, configuration and layers refer to each other by digests that can be recomputed."""
    with tarfile.open(archive) as tar:

        def read(name: str) -> bytes:
            stream = tar.extractfile(name)
            assert stream is not None
            return stream.read()

        def blob(descriptor: dict[str, object]) -> bytes:
            data = read("blobs/" + str(descriptor["digest"]).replace(":", "/"))
            assert "sha256:" + hashlib.sha256(data).hexdigest() == descriptor["digest"]
            assert len(data) == descriptor["size"]
            return data

        index = json.loads(read("index.json"))
        manifest = json.loads(blob(index["manifests"][0]))
        config = json.loads(blob(manifest["config"]))
        diffs = ["sha256:" + hashlib.sha256(gzip.decompress(blob(one))).hexdigest() for one in manifest["layers"]]
        docker = json.loads(read("manifest.json"))[0]
        assert [len(read(name)) for name in docker["Layers"]] == [one["size"] for one in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == diffs
    assert (config["architecture"], config["os"]) == ("amd64", "linux")
    assert config["config"]["User"] == "5:5"
    assert docker["RepoTags"] == ["docker.io/library/it:1"]


def test_layers_hold_directories_modes_and_no_trace_of_the_builder(tmp_path: Path) -> None:
    """Parents are there, executables stay executable, owners and times are nobody's."""
    program = tmp_path / "program"
    program.write_text("x")
    program.chmod(0o711)
    made = oci.layer({"a/b/program": program, "a/note": b"n", "tmp": None}, "x")
    with tarfile.open(fileobj=io.BytesIO(made.data)) as tar:
        entries = {entry.name: (entry.mode, entry.uid, entry.mtime, entry.isdir()) for entry in tar}
    assert entries == {
        "a": (0o755, 0, 0, True),
        "a/b": (0o755, 0, 0, True),
        "a/b/program": (0o755, 0, 0, False),
        "a/note": (0o644, 0, 0, False),
        "tmp": (0o1777, 0, 0, True),
    }


def test_our_own_node_loads_it(archive: Path, tmp_path: Path) -> None:
    """The embedded node reads the archive under its name, with entry point and user."""
    library = Library(tmp_path / "images")
    assert library.load(archive) == ["docker.io/library/it:1"]
    image = library.resolve("it:1")
    assert image is not None
    assert image.entrypoint == ("/opt/it/program",)
    assert (Path(image.layers[0]) / "opt/it/program").read_text() == "run me"


def test_machines_without_an_image_are_refused() -> None:
    """An architecture that nothing can be built for is named with those that work."""
    with pytest.raises(ValueError, match="s390x machines; supported: x86_64"):
        oci.architecture("s390x")
