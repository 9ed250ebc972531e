"""Clusters that were not made by ``RealNode``: kind, and whatever ``KUBECONFIG`` names.

kind needs Docker and the programs ``kind`` and ``docker``: the images are loaded into it from the same archives. For an
existing cluster the images have to be where its nodes find them, and are named by ``APPLIANCE_TEST_IMAGE_NAME``.
The managers' Service is reached by ``kubectl port-forward``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from appliance.api import labels
from appliance.install.rbac import MANAGER
from realnode import images, roles
from realnode.roles import Cloud


class Foreign:
    """A cluster that is only reached through its kubeconfig."""

    def __init__(self, kubeconfig: Path, kubectl: str) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_program = kubectl
        self._forwards: list[subprocess.Popen[str]] = []

    def relay(self, name: str, host: str, port: int) -> str:
        """A loopback address that leads to the managers' Service; ``host`` is not needed."""
        process = subprocess.Popen(
            [self.kubectl_program, "--kubeconfig", str(self.kubeconfig), "-n", labels.SYSTEM_NAMESPACE, "port-forward",
             f"service/{MANAGER}", f":{port}"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._forwards.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()  # Forwarding from 127.0.0.1:PORT -> 8080
        return line.split()[2]

    def close(self) -> None:
        """End the forwards."""
        for process in self._forwards:
            process.terminate()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def missing(kind: str) -> str | None:
    """Why such a cluster cannot be used here, or None."""
    if kind == "existing":
        needed = ("KUBECONFIG", "APPLIANCE_TEST_IMAGE_NAME")
        unset = [name for name in needed if not os.environ.get(name)]
        return f"{' and '.join(unset)} must be set for --cluster=existing" if unset else None
    absent = [name for name in ("kind", "docker", "kubectl") if shutil.which(name) is None]
    return f"--cluster=kind needs {', '.join(absent)}: https://kind.sigs.k8s.io" if absent else None


@contextlib.contextmanager
def installed(kind: str, work: Path) -> Iterator[Cloud]:
    """The product on such a cluster; a kind cluster is removed afterwards, an existing one keeps the installation."""
    kubectl = os.environ.get("APPLIANCE_TEST_KUBECTL") or shutil.which("kubectl") or "kubectl"
    with contextlib.ExitStack() as stack:
        kubeconfig = _kind(stack, work) if kind == "kind" else Path(os.environ["KUBECONFIG"])
        cluster = Foreign(kubeconfig, kubectl)
        stack.callback(cluster.close)
        yield roles.install(cluster, image=os.environ.get("APPLIANCE_TEST_IMAGE_NAME") or images.APPLIANCE)


def _kind(stack: contextlib.ExitStack, work: Path) -> Path:
    name, kubeconfig = f"appliance-{secrets.token_hex(3)}", work / "kubeconfig"
    words = ["kind", "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "120s"]
    stack.callback(subprocess.run, ["kind", "delete", "cluster", "--name", name], check=False)
    subprocess.run(words, check=True)
    for archive in (images.appliance(work / "appliance.tar"), images.sandbox(), images.busybox()):
        subprocess.run(["kind", "load", "image-archive", str(archive), "--name", name], check=True)
    return kubeconfig
