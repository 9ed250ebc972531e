"""The built archive and a bundle, handed to a real kind.

kind finds its nodes by the labels of Docker's containers and asks containerd inside them. A node is made here of
nothing but that: a container of a private Docker engine that runs containerd.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from bundlefile import SANDBOX_IMAGE
from imagefile import NAME, built_image
from imageloaders import loaded, program, said
from pyzfile import ROOT

KIND = os.environ.get("APPLIANCE_TEST_KIND")
DOCKERD = os.environ.get("APPLIANCE_TEST_DOCKERD")
CLUSTER = "loading"
NODE = f"{CLUSTER}-control-plane"
CONTAINERD_CONFIG = "version = 2\n"
LABELS = ("--label", f"io.x-k8s.kind.cluster={CLUSTER}", "--label", "io.x-k8s.kind.role=control-plane")
pytestmark = [pytest.mark.box, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def docker(machine: None) -> Iterator[dict[str, str]]:
    """The environment in which ``docker`` reaches an engine of these tests' own, and ``kind`` is found."""
    if KIND is None or DOCKERD is None:
        pytest.skip(
            "APPLIANCE_TEST_KIND and _DOCKERD are not set: packaging/go-tools.sh kind, packaging/docker-engine.sh"
        )
    client = shutil.which("docker") or str(Path(DOCKERD).parents[1] / "bin" / "docker")
    with tempfile.TemporaryDirectory(prefix="kind-load-") as work:
        directory, tools = Path(work, "engine"), Path(work, "tools")
        for path in (directory, tools):
            path.mkdir()
        (tools / "docker").symlink_to(client)
        (tools / "kind").symlink_to(KIND)
        ready = directory / "ready"
        command = [ROOT / "packaging/kind/private.sh", "--isolated", "--volatile", "--directory", directory]
        process = subprocess.Popen(
            [*command, "sh", "-c", f"touch {ready}; exec sleep infinity"], stdin=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 60
            while not ready.exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield {"DOCKER_HOST": f"unix://{directory}/sock", "PATH": f"{tools}:{os.environ['PATH']}"}
        finally:
            process.terminate()
            process.wait(timeout=30)


def node_image(target: Path) -> None:
    """An archive of a root with a shell's programs, containerd, ctr and the libraries they need."""
    programs = [program("busybox", "busybox-static"), *(program(name, "containerd") for name in ("containerd", "ctr"))]
    config = target.with_suffix(".toml")
    config.write_text(CONTAINERD_CONFIG)
    libraries = {
        word for line in said("ldd", *programs[1:]).splitlines() for word in line.split() if word.startswith("/lib")
    }
    with tarfile.open(target, "w", dereference=True) as tar:
        for path in programs:
            tar.add(path, f"bin/{Path(path).name}")
        for path in libraries:
            tar.add(path, path[1:])
        tar.add(config, "etc/containerd/config.toml")


@pytest.fixture(scope="module")
def node(docker: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The same environment, with a cluster of one node that answers."""
    archive = tmp_path_factory.mktemp("node") / "node.tar"
    node_image(archive)
    changes = ("--change", 'ENTRYPOINT ["/bin/containerd"]', "--change", "ENV PATH=/bin")
    said("docker", "import", *changes, archive, "appliance.test/node:1", **docker)
    run = ("run", "--detach", "--privileged", "--network=none", "--tmpfs=/run", "--volume=/var", f"--name={NODE}")
    said("docker", *run, *LABELS, "appliance.test/node:1", **docker)
    deadline = time.monotonic() + 60
    ready = ["docker", "exec", NODE, "/bin/busybox", "test", "-S", "/run/containerd/containerd.sock"]
    while subprocess.run(ready, env={**os.environ, **docker}, check=False, capture_output=True).returncode:
        assert time.monotonic() < deadline, said("docker", "logs", NODE, **docker)
        time.sleep(0.1)
    return docker


def images(node: dict[str, str]) -> set[str]:
    """The references that the node's kubelet would find, each checked to be complete and unpacked."""
    ctr = ("docker", "exec", NODE, "ctr", "--namespace=k8s.io", "images")
    found = set(said(*ctr, "list", "-q", **node).split())
    for name in (NAME, SANDBOX_IMAGE):
        if name in found:
            checked = said(*ctr, "check", f"name=={name}", **node)
            assert "complete" in checked
            assert checked.rstrip().endswith("true")
    return found


def test_kind_loads_the_image(node: dict[str, str]) -> None:
    """``kind load image-archive`` brings the built archive into the node."""
    said("kind", "load", "image-archive", built_image(), "--name", CLUSTER, **node)
    assert NAME in images(node)


def test_a_bundle_is_loaded_into_kind(node: dict[str, str], tmp_path: Path) -> None:
    """``bundle load`` brings both of its images."""
    tools = Path(node["PATH"].split(":", 1)[0])
    lines = loaded(tmp_path, "kind", tools, "--kind-cluster", CLUSTER, DOCKER_HOST=node["DOCKER_HOST"])
    assert lines == [f"kind: {NAME}", f"kind: {SANDBOX_IMAGE}"]
    assert {NAME, SANDBOX_IMAGE} <= images(node)


def test_a_cluster_that_is_not_there_is_refused_in_words(node: dict[str, str], tmp_path: Path) -> None:
    """The name of the cluster that was meant is in what ``bundle load`` says."""
    tools = Path(node["PATH"].split(":", 1)[0])
    with pytest.raises(AssertionError, match="elsewhere"):
        loaded(tmp_path, "kind", tools, "--kind-cluster", "elsewhere", DOCKER_HOST=node["DOCKER_HOST"])
