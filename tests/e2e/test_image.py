"""The built image, run without any container engine: unpacked, entered with chroot, as the user that it names."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
import roots
from boxes import RunningBox, free_port
from e2b_code_interpreter import Sandbox
from imagefile import build, built_image
from pyzfile import base_python, built, clean_environment

from appliance import __version__

pytestmark = pytest.mark.box
ROLE_MODULES = (
    "appliance.box.main", "appliance.embedded.apiserver.main", "appliance.embedded.node.main",
    "appliance.controller.main", "appliance.manager.main", "appliance.runtime.server", "tui.main",
)  # fmt: skip


@pytest.fixture(scope="module")
def archive(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``appliance.pyz image build`` writes."""
    directory = tmp_path_factory.mktemp("image")
    shutil.copy(built_image(), directory / "appliance.tar")
    return directory / "appliance.tar"


def member(archive: Path, name: str) -> bytes:
    """A file of the archive."""
    with tarfile.open(archive) as tar:
        stream = tar.extractfile(name)
        assert stream is not None
        return stream.read()


@pytest.fixture(scope="module")
def settings(archive: Path) -> dict[str, Any]:
    """The image's run configuration."""
    found: dict[str, Any] = json.loads(member(archive, json.loads(member(archive, "manifest.json"))[0]["Config"]))
    return found["config"]


@pytest.fixture(scope="module")
def root(archive: Path) -> Path:
    """The unpacked image."""
    target = archive.with_name("root")
    for layer in json.loads(member(archive, "manifest.json"))[0]["Layers"]:
        with tarfile.open(fileobj=io.BytesIO(member(archive, layer))) as tar:
            tar.extractall(target, filter="tar")
    (target / "tmp").chmod(0o1777)
    archive.parent.chmod(0o755)
    return target


def enter(root: Path, settings: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    """Run words in the image as its user, with its environment."""
    environment = dict(entry.split("=", 1) for entry in settings["Env"])
    command = ["/usr/sbin/chroot", f"--userspec={settings['User']}", str(root), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_its_entry_point_runs_as_nobody_in_particular(root: Path, settings: dict[str, Any]) -> None:
    """The configured user is not root, and the entry point answers in a root file system with nothing else in it."""
    assert settings["User"].split(":")[0] not in ("", "0", "root")
    done = enter(root, settings, *settings["Entrypoint"], "--version")
    assert done.stdout.startswith("appliance "), done.stderr
    assert sorted(path.name for path in root.iterdir()) == ["etc", "opt", "tmp"]


def test_every_role_loads_from_the_image_alone(root: Path, settings: dict[str, Any]) -> None:
    """Interpreter, libraries and application of each role are in the tree, compiled, and write nothing."""
    search = "import sys; sys.path[:0] = ['/opt/appliance/app', '/opt/appliance/site']; sys.dont_write_bytecode = True"
    for module in ROLE_MODULES:
        done = enter(
            root, settings, "/opt/appliance/bin/python3", "-I", "-c", f"{search}; import {module}, ssl, sqlite3"
        )
        assert done.returncode == 0, f"{module}: {done.stderr}"
    modules = list((root / "opt/appliance/app").rglob("*.py"))
    assert modules
    assert all(list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc")) for path in modules)


def test_the_manager_serves_from_the_image(
    box: RunningBox, root: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in its pod: not root, a kubeconfig, a key file, a cluster that it has not started; the SDK works."""
    kubeconfig, key = root / "tmp/kubeconfig", root / "tmp/key"
    kubeconfig.write_bytes((box.data_dir / "run/manager.kubeconfig").read_bytes())
    key.write_text("e2b_" + "5" * 40)
    for path in (kubeconfig, key):
        shutil.chown(path, 65532, 65532)
        path.chmod(0o400)
    listen = f"127.0.0.1:{free_port()}"
    command = ["/usr/sbin/chroot", f"--userspec={settings['User']}", str(root), *settings["Entrypoint"]]
    command += ["--role=manager", "--kubeconfig=/tmp/kubeconfig", "--api-key-file=/tmp/key", f"--listen={listen}"]
    environment = dict(entry.split("=", 1) for entry in settings["Env"])
    log = tmp_path / "manager.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 30
        while "ready: serving" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        for name, value in {"E2B_API_URL": f"http://{listen}", "E2B_SANDBOX_URL": f"http://{listen}"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("E2B_API_KEY", key.read_text())
        with Sandbox.create(template="code-interpreter", timeout=60) as sandbox:
            assert sandbox.run_code("6 * 7").text == "42"
    finally:
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_the_bill_of_materials_names_what_is_inside(root: Path, settings: dict[str, Any]) -> None:
    """The label leads to a CycloneDX file that lists the libraries and their versions."""
    path = settings["Labels"]["io.appliance.sbom"]
    bill = json.loads((root / path.lstrip("/")).read_text())
    names = {component["name"] for component in bill["components"]}
    assert {"cpython", "aiohttp", "libc.so.6"} <= names
    assert (root / "etc/ssl/certs/ca-certificates.crt").stat().st_size > 10_000
    directory = root / dict(entry.split("=", 1) for entry in settings["Env"])["SSL_CERT_DIR"].lstrip("/")
    assert len([path for path in directory.iterdir() if re.fullmatch(r"[0-9a-f]{8}\.\d", path.name)]) > 50


def layers(archive: Path) -> list[str]:
    """Digests of the layers, the base first."""
    found: list[str] = json.loads(member(archive, "manifest.json"))[0]["Layers"]
    return found


@pytest.mark.timeout(600)
def test_the_same_file_gives_the_same_image_and_a_new_version_one_small_layer(archive: Path, tmp_path: Path) -> None:
    """Built again: the same bytes. Built by a file with a changed application: all layers but the last are the same."""
    build(tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    place = {"SHIV_ROOT": str(tmp_path / "cache")}
    command = [base_python(), str(built())]
    subprocess.run([*command, "--version"], env=clean_environment(tmp_path, **place), check=True, timeout=60)
    version = next((tmp_path / "cache").glob("*/site-packages/appliance/__init__.py"))
    version.write_text(version.read_text().replace(__version__, "9.9.9"))
    newer = tmp_path / "newer.tar"
    command += ["image", "build", "-o", str(newer)]
    subprocess.run(command, env=clean_environment(tmp_path, **place), check=True, timeout=280)
    before, after = layers(archive), layers(newer)
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
    assert len(member(newer, after[-1])) < 4_000_000


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    """What cannot be built here is said, with what can, and nothing is written."""
    command = [base_python(), str(built()), "image", "build", "--arch", "arm64", "-o", str(tmp_path / "x.tar")]
    done = subprocess.run(
        command, env=clean_environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "--arch: arm64 cannot be built here" in done.stderr
    assert not (tmp_path / "x.tar").exists()


def test_the_box_refuses_a_damaged_copy(archive: Path, tmp_path: Path) -> None:
    """Truncated or changed, the built archive is named and not loaded by ``appliance image load``."""
    data = archive.read_bytes()
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    for name, contents in {"half.tar": data[: len(data) // 2], "changed.tar": bytes(changed)}.items():
        (tmp_path / name).write_bytes(contents)
        command = [
            base_python(),
            str(built()),
            "image",
            "load",
            "--data-dir",
            str(tmp_path / "d"),
            str(tmp_path / name),
        ]
        done = subprocess.run(
            command, env=clean_environment(tmp_path), capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 1
        assert name in done.stderr
    assert not (tmp_path / "d").exists()


def started_in(root: Path, other: Path, *words: str) -> dict[str, Any]:
    """Place the runtime in a container with the root ``other``, start it and run a cell that runs ``words``."""
    image = root.with_name(f"sidecar-{other.name}")
    shutil.copytree(root, image, symlinks=True)
    command = ["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable]
    command += [str(Path(__file__).with_name("any_image.py")), str(image), str(other), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    shutil.rmtree(image)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["envd"] == 204
    lines = [json.loads(line) for line in said["cell"].splitlines()]
    printed = "".join(line["text"] for line in lines if line["type"] == "stdout")
    assert printed, said["cell"]
    return {**said, **json.loads(printed)}


def test_the_runtime_starts_in_an_image_that_holds_nothing(root: Path, tmp_path: Path) -> None:
    """Placed by the sidecar, started by the hook's bare exec: envd and a Python cell, without libc, shell or Python."""
    (tmp_path / "empty").mkdir()
    said = started_in(root, tmp_path / "empty")
    assert said["root"] == ["dev", "mnt", "proc", "tmp"]


def test_the_runtime_starts_beside_a_single_static_program(root: Path, tmp_path: Path) -> None:
    """An image that is one static binary: the runtime starts, and starts that binary."""
    roots.static(tmp_path / "static")
    said = started_in(root, tmp_path / "static", "/busybox", "echo", "static")
    assert said["root"] == ["busybox", "dev", "mnt", "proc", "tmp"]
    assert said["said"] == "static"


@pytest.mark.debian
@pytest.mark.timeout(900)  # the first run makes the root with debootstrap
def test_the_runtime_starts_in_debian(root: Path, tmp_path: Path) -> None:
    """In what debootstrap makes, programs of the image run with their own libc: nothing of ours leaks to them."""
    roots.debian("bookworm", tmp_path / "debian")
    said = started_in(root, tmp_path / "debian", "/bin/sh", "-c", "cat /etc/debian_version; env")
    assert said["said"].startswith("12."), said["trouble"]
    assert "LD_LIBRARY_PATH" not in said["said"]
    assert "/mnt/agent-runtime/lib" not in said["said"]


@pytest.mark.debian
@pytest.mark.timeout(900)
def test_the_runtime_starts_over_an_older_libc_without_a_shell(root: Path, tmp_path: Path) -> None:
    """The image's libc is older than the one our interpreter was linked against, and there is no shell at all."""
    old = tmp_path / "old"
    roots.debian("bullseye", old)
    roots.without_shells(old)
    images_own = re.search(r"libc-(2\.\d+)\.so", " ".join(path.name for path in (old / "lib").rglob("libc-2*.so")))
    assert images_own is not None
    said = started_in(root, old, "/bin/cat", "/etc/debian_version")
    assert said["said"].startswith("11."), said["trouble"]
    builders = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[-1]
    assert [int(part) for part in images_own[1].split(".")] < [int(part) for part in builders.split(".")]
    assert not [name for name in ("bin/sh", "bin/bash", "usr/bin/sh") if (old / name).exists()]
