"""Bundles: whole ones pass, every damage is named, and only whole ones are loaded."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.bundle import pack
from appliance.bundle.contents import LIST, SUMS, BadBundle, Contents, Entry, check
from appliance.bundle.load import Where, guessed, load
from appliance.embedded.node.images import Library
from appliance.image import oci

NAME = "docker.io/e2bdev/code-interpreter:latest"


def image(path: Path) -> Path:
    """A small image archive."""
    oci.write(path, NAME, [oci.layer({"etc/hello": b"hi"}, "x")], {"Cmd": ["sh"]}, "x86_64")
    return path


@pytest.fixture
def members(tmp_path: Path) -> dict[str, bytes]:
    """Name → contents of a bundle, the list first."""
    parts = {
        "README": (b"read me", "text", ()),
        "appliance.pyz": (b"program", "program", ()),
        "images/appliance.tar": (b"not looked into", "image", ("docker.io/library/appliance:1",)),
        "images/sandbox/ci.tar": (image(tmp_path / "ci.tar").read_bytes(), "sandbox-image", (NAME,)),
    }
    entries = [
        Entry(name, kind, len(data), hashlib.sha256(data).hexdigest(), names)
        for name, (data, kind, names) in parts.items()
    ]
    contents = Contents("0.1.0", tuple(entries))
    return {LIST: contents.encode(), SUMS: contents.sums(), **{name: part[0] for name, part in parts.items()}}


def write(path: Path, members: dict[str, bytes]) -> Path:
    """A tar of them, in order."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture
def bundle(tmp_path: Path, members: dict[str, bytes]) -> Path:
    """A whole bundle."""
    return write(tmp_path / "bundle.tar", members)


def test_a_whole_bundle_passes(bundle: Path) -> None:
    """The list is what is inside."""
    assert [entry.kind for entry in check(bundle).entries] == ["text", "program", "image", "sandbox-image"]


def test_every_truncation_is_named(bundle: Path) -> None:
    """Wherever the copy stopped, the file is named and nothing is loaded."""
    data = bundle.read_bytes()
    with tarfile.open(bundle) as tar:
        end = max(member.offset_data + member.size for member in tar)
    for length in range(0, end, 377):
        bundle.write_bytes(data[:length])
        with pytest.raises(BadBundle, match=bundle.name):
            check(bundle)


def test_every_change_is_named(bundle: Path, members: dict[str, bytes]) -> None:
    """A changed, missing or added member, also the list itself, is refused by name."""
    for name, data in members.items():
        without = {other: contents for other, contents in members.items() if other != name}
        for changed in (without, {**members, name: bytes([data[0] ^ 1]) + data[1:]}):
            with pytest.raises(BadBundle, match=bundle.name):
                check(write(bundle, changed))
    with pytest.raises(BadBundle, match="extra does not belong there"):
        check(write(bundle, {**members, "extra": b"x"}))
    with pytest.raises(BadBundle, match="not its first member"):
        check(write(bundle, dict(reversed(members.items()))))


def test_a_list_that_names_places_outside_is_refused(bundle: Path, members: dict[str, bytes]) -> None:
    """No member can be written elsewhere by its name."""
    bad = Contents("1", (Entry("../../etc/passwd", "text", 0, "0"),))
    with pytest.raises(BadBundle, match="which no bundle has"):
        check(write(bundle, {**members, LIST: bad.encode()}))


def test_a_box_gets_the_sandbox_images(bundle: Path, tmp_path: Path) -> None:
    """And only those: the program is there already."""
    said: list[str] = []
    load(bundle, Where(place="box", data_dir=tmp_path / "box"), said.append)
    assert said == [f"box: {NAME}"]
    assert Library(tmp_path / "box/node/images").resolve(NAME) is not None


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a program into an otherwise empty PATH; what it is called with goes to a file."""
    directory, calls = tmp_path / "bin", tmp_path / "calls"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def make(name: str, body: str) -> Path:
        (directory / name).write_text(f'#!/bin/sh\necho "$0 $@" >>{calls}\n{body}\n')
        (directory / name).chmod(0o755)
        return calls

    return make


@pytest.mark.parametrize(
    ("place", "program", "words"),
    [
        ("containerd", "ctr", "--address /run/containerd/containerd.sock --namespace k8s.io images import"),
        ("docker", "docker", "load --input"),
        ("kind", "kind", "load image-archive --name kind"),
    ],
)
def test_each_place_gets_every_image(
    place: str, program: str, words: str, bundle: Path, tmp_path: Path, programs: Callable[[str, str], Path]
) -> None:
    """The place's program is called once for each archive, with its file; a refusal is passed on."""
    where = Where(place=place, data_dir=tmp_path)
    with pytest.raises(RuntimeError, match=f"the program {program} is not in PATH"):
        load(bundle, where, lambda line: None)
    calls = programs(program, "exit 0")
    load(bundle, where, lambda line: None)
    made = calls.read_text().splitlines()
    assert [line.partition(" ")[2].rpartition(" ")[0] for line in made] == [words, words]
    programs(program, "echo no room >&2; exit 1")
    with pytest.raises(RuntimeError, match=f"{place}: no room"):
        load(bundle, where, lambda line: None)


def test_a_damaged_bundle_reaches_no_place(bundle: Path, tmp_path: Path, programs: Callable[[str, str], Path]) -> None:
    """All of it is checked before the first image is handed over."""
    calls = programs("ctr", "exit 0")
    data = bytearray(bundle.read_bytes())
    data[-11000] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(BadBundle, match=bundle.name):
        load(bundle, Where(place="containerd", data_dir=tmp_path), lambda line: None)
    assert not calls.exists()


def test_without_a_place_the_choices_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here, or more than one: the user has to say which."""
    monkeypatch.setattr("appliance.bundle.load._DOCKER", tmp_path / "no")
    monkeypatch.setattr(Where, "address", str(tmp_path / "no"))
    with pytest.raises(RuntimeError, match="none of containerd, docker or a box"):
        guessed(tmp_path)
    (tmp_path / "kubeconfig").touch()
    assert guessed(tmp_path) == "box"
    monkeypatch.setattr("appliance.bundle.load._DOCKER", tmp_path / "kubeconfig")
    with pytest.raises(RuntimeError, match="docker and box are here"):
        guessed(tmp_path)


def test_only_the_single_file_packs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a checkout there is no file to put in; that is said at once, and nothing is written."""
    monkeypatch.delitem(os.environ, "APPLIANCE_PYZ", raising=False)
    with pytest.raises(ValueError, match="single file"):
        pack.pack(tmp_path / "b.tar", [], lambda line: None)
    assert not (tmp_path / "b.tar").exists()
