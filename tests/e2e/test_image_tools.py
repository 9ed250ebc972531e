"""The built archive in the hands of the programs that take such archives: containerd, skopeo, crane, Docker.

A private containerd and a private Docker daemon, each on its own socket and directories, stand in for a node's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundlefile import SANDBOX_IMAGE
from imagefile import NAME, built_image
from imageloaders import loaded, program, said

CRANE = os.environ.get("APPLIANCE_TEST_CRANE")
DOCKERD = os.environ.get("APPLIANCE_TEST_DOCKERD")
LABEL = "org.opencontainers.image.title"
pytestmark = [pytest.mark.box, pytest.mark.timeout(180)]


def until(ready: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for a daemon's socket."""
    deadline = time.monotonic() + 60
    while not ready.exists():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@pytest.fixture(scope="module")
def containerd(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a containerd of these tests' own."""
    directory = tmp_path_factory.mktemp("containerd")
    config, log = directory / "config.toml", directory / "log"
    config.write_text(
        f'version = 2\nroot = "{directory}/root"\nstate = "{directory}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{directory}/sock"\n[ttrpc]\naddress = "{directory}/ttrpc"\n'
    )
    with log.open("w") as out:
        process = subprocess.Popen([program("containerd", "containerd"), "-c", config], stdout=out, stderr=out)
    try:
        until(directory / "sock", process, log)
        yield directory / "sock"
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_containerd_imports_it_and_has_every_layer(containerd: Path) -> None:
    """``ctr image import`` with the flags that ``kind load image-archive`` uses; the image unpacks and is complete."""
    ctr = [program("ctr", "containerd"), "--address", containerd, "--namespace", "k8s.io", "images"]
    said(*ctr, "import", "--all-platforms", "--digests", "--snapshotter=native", built_image())
    assert NAME in said(*ctr, "list", "-q").split()
    checked = said(*ctr, "check", "--snapshotter=native", f"name=={NAME}")
    assert "complete" in checked
    assert checked.rstrip().endswith("true")  # unpacked


def test_a_bundle_is_loaded_into_containerd(containerd: Path, tmp_path: Path) -> None:
    """``bundle load`` brings both images, unpacked and complete, to where the kubelet looks; twice is harmless."""
    ctr = program("ctr", "containerd")
    listing = [ctr, "--address", containerd, "--namespace", "k8s.io", "images"]
    for _ in range(2):
        said_lines = loaded(tmp_path, "containerd", Path(ctr).parent, "--containerd", str(containerd))
        assert said_lines == [f"containerd: {NAME}", f"containerd: {SANDBOX_IMAGE}"]
    assert {NAME, SANDBOX_IMAGE} <= set(said(*listing, "list", "-q").split())
    for name in (NAME, SANDBOX_IMAGE):
        checked = said(*listing, "check", f"name=={name}")
        assert "complete" in checked
        assert checked.rstrip().endswith("true")


def test_skopeo_reads_and_copies_it(tmp_path: Path, machine: None) -> None:
    """Both of skopeo's readers of archives agree about the image, and a copy has the same layers."""
    skopeo = program("skopeo", "skopeo")
    as_oci = json.loads(said(skopeo, "inspect", f"oci-archive:{built_image()}"))
    as_docker = json.loads(said(skopeo, "inspect", f"docker-archive:{built_image()}"))
    assert as_oci["Labels"][LABEL] == as_docker["Labels"][LABEL] == "appliance"
    assert as_oci["Layers"] == as_docker["Layers"] or len(as_oci["Layers"]) == len(as_docker["Layers"]) == 4
    said(skopeo, "--insecure-policy", "copy", f"oci-archive:{built_image()}", f"dir:{tmp_path}/copy")
    for layer in as_oci["Layers"]:
        assert (tmp_path / "copy" / layer.removeprefix("sha256:")).stat().st_size > 0


def test_crane_reads_it(tmp_path: Path) -> None:
    """crane's reader of tarballs, which several build tools share, finds the image and its user."""
    if CRANE is None:
        pytest.skip("APPLIANCE_TEST_CRANE is not set: packaging/go-tools.sh crane prints its path")
    tarball = said(CRANE, "validate", "--tarball", built_image())
    assert "PASS" in tarball


@pytest.fixture(scope="module")
def docker(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The Docker client, pointed at a daemon of these tests' own."""
    if DOCKERD is None:
        pytest.skip("APPLIANCE_TEST_DOCKERD is not set: packaging/docker-engine.sh prints its path")
    client = shutil.which("docker") or str(Path(DOCKERD).parents[1] / "bin" / "docker")
    directory = tmp_path_factory.mktemp("docker")
    log = directory / "log"
    command = [DOCKERD, "--host", f"unix://{directory}/sock", "--data-root", directory / "root", "--bridge=none"]
    command += ["--exec-root", directory / "exec", "--pidfile", directory / "pid", "--iptables=false"]
    command += ["--storage-driver=vfs"]
    with log.open("w") as out:
        process = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
    try:
        until(directory / "sock", process, log)
        yield [client, "--host", f"unix://{directory}/sock"]
    finally:
        process.terminate()
        process.wait(timeout=60)


def test_docker_loads_it(docker: list[str]) -> None:
    """``docker load`` takes the archive; entry point, user and labels arrive."""
    assert "Loaded image: appliance:" in said(*docker, "load", "-i", built_image())
    found = json.loads(said(*docker, "image", "inspect", NAME))[0]
    assert found["Config"]["User"] == "65532:65532"
    assert found["Config"]["Entrypoint"] == ["/opt/appliance/appliance"]
    assert found["Config"]["Labels"][LABEL] == "appliance"


def test_a_bundle_is_loaded_into_docker(docker: list[str], tmp_path: Path) -> None:
    """``bundle load`` brings both images to the daemon that DOCKER_HOST names."""
    lines = loaded(tmp_path, "docker", Path(docker[0]).parent, DOCKER_HOST=docker[-1])
    assert lines == [f"docker: {NAME}", f"docker: {SANDBOX_IMAGE}"]
    for name in (NAME, SANDBOX_IMAGE):
        assert json.loads(said(*docker, "image", "inspect", name))[0]["RootFS"]["Layers"]
