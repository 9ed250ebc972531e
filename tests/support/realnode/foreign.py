"""Clusters that were not made by ``RealNode``: kind, and whatever ``KUBECONFIG`` names.

kind needs the programs ``kind`` (or ``APPLIANCE_TEST_KIND``) and ``docker``: the images are loaded into it from the
same archives, and its nodes may be of another image than kind's own (``APPLIANCE_TEST_KIND_NODE``, an archive or a
name). For an existing cluster the images are where its nodes find them; ``APPLIANCE_TEST_IMAGE_NAME`` names ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from appliance.api import labels
from appliance.install.rbac import MANAGER
from realnode import images, roles
from realnode.forward import Forward
from realnode.roles import Cloud

OUTSIDE = "outside"
"""The Service by which a kind cluster's managers are reached from the machine."""

ENOUGH = 8
"""Processors that the tests' sandboxes and the cluster's own pods ask for."""


class Foreign:
    """A cluster that is only reached through its kubeconfig; the managers through ``kubectl port-forward``."""

    def __init__(self, kubeconfig: Path, kubectl: str) -> None:
        self.kubeconfig = kubeconfig
        self.kubectl_program = kubectl
        self.shelve: Callable[[Path], None] | None = None
        self._forwards: list[Forward] = []

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """What a kubectl command prints that must succeed."""
        command = [self.kubectl_program, "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, text=True, check=True).stdout

    def relay(self, name: str, host: str, port: int) -> str:
        """A loopback address that leads to the managers' Service; ``host`` is not needed."""
        command = [self.kubectl_program, "--kubeconfig", str(self.kubeconfig), "-n", labels.SYSTEM_NAMESPACE]
        self._forwards.append(Forward([*command, "port-forward", f"service/{MANAGER}", f":{port}"]))
        return self._forwards[-1].address

    def run(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 120
            ) -> subprocess.CompletedProcess[str]:  # fmt: skip
        """Run a program on this machine and return what came of it."""
        whole = {**os.environ, **(env or {})}
        return subprocess.run(words, env=whole, capture_output=True, text=True, timeout=timeout, check=False)

    def close(self) -> None:
        """End the forwards."""
        for forward in self._forwards:
            forward.close()


class Kind(Foreign):
    """A kind cluster: a node's address is reached from the machine, and archives are loaded."""

    def __init__(self, kubeconfig: Path, kubectl: str, kind: str, name: str) -> None:
        super().__init__(kubeconfig, kubectl)
        self._kind, self._name = kind, name
        self.shelve = self.load

    def relay(self, name: str, host: str, port: int) -> str:
        """A port of the node that leads to the managers, whichever of them run."""
        system = ("-n", labels.SYSTEM_NAMESPACE)
        spec = json.loads(self.kubectl(*system, "get", "service", MANAGER, "-o", "json"))["spec"]
        (ports,) = [item for item in spec["ports"] if item["port"] == port]
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": OUTSIDE, "namespace": labels.SYSTEM_NAMESPACE},
            "spec": {"type": "NodePort", "selector": spec["selector"], "ports": [ports]},
        }
        made = json.loads(self.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(service)))
        published = made["spec"]["ports"][0]["nodePort"]
        where = 'jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}'
        return f"{self.kubectl('get', 'nodes', '-o', where)}:{published}"

    def load(self, archive: Path) -> None:
        """Bring an archive's image to every node."""
        subprocess.run([self._kind, "load", "image-archive", str(archive), "--name", self._name], check=True)


def missing(kind: str) -> str | None:
    """Why such a cluster cannot be used here, or None."""
    if kind == "existing":
        needed = ("KUBECONFIG", "APPLIANCE_TEST_IMAGE_NAME")
        unset = [name for name in needed if not os.environ.get(name)]
        return f"{' and '.join(unset)} must be set for --cluster=existing" if unset else None
    if shutil.which("docker") is None:
        return "--cluster=kind needs docker (packaging/kind/private.sh runs an engine of its own)"
    return None if _program() else "--cluster=kind needs kind, in PATH or named by APPLIANCE_TEST_KIND"


def _program() -> str | None:
    return os.environ.get("APPLIANCE_TEST_KIND") or shutil.which("kind")


@contextlib.contextmanager
def installed(kind: str, work: Path) -> Iterator[Cloud]:
    """The product on such a cluster; a kind cluster is removed afterwards, an existing one keeps the installation."""
    kubectl = os.environ.get("APPLIANCE_TEST_KUBECTL") or shutil.which("kubectl") or "kubectl"
    with contextlib.ExitStack() as stack:
        if kind == "kind":
            cluster: Foreign = _kind(stack, work, kubectl)
        else:
            cluster = Foreign(Path(os.environ["KUBECONFIG"]), kubectl)
        stack.callback(cluster.close)
        cloud = roles.install(cluster, image=os.environ.get("APPLIANCE_TEST_IMAGE_NAME") or images.APPLIANCE)
        cloud.service = cloud.address  # ``run`` runs programs out here
        yield cloud


def _kind(stack: contextlib.ExitStack, work: Path, kubectl: str) -> Kind:
    kind = _program() or "kind"
    name, kubeconfig = f"appliance-{secrets.token_hex(3)}", work / "kubeconfig"
    words = [kind, "create", "cluster", "--name", name, "--kubeconfig", str(kubeconfig), "--wait", "120s"]
    words += ["--config", str(images.ROOT / "packaging" / "kind" / "cluster.yaml")]
    if image := os.environ.get("APPLIANCE_TEST_KIND_NODE"):
        if Path(image).is_file():
            load = ["docker", "load", "--quiet", "--input", image]
            said = subprocess.run(load, stdout=subprocess.PIPE, text=True, check=True).stdout
            image = said.strip().removeprefix("Loaded image: ")
        words += ["--image", image]
    stack.callback(subprocess.run, [kind, "delete", "cluster", "--name", name], check=False)
    subprocess.run(words, check=True)
    cluster = Kind(kubeconfig, kubectl, kind, name)
    _enlarge(cluster, f"{name}-control-plane")
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(_policy("images-are-here", _PRESENT)))
    for archive in (images.appliance(work / "appliance.tar"), images.sandbox(), images.busybox()):
        cluster.load(archive)
    return cluster


_PRESENT = {
    "mutations": [{
        "patchType": "ApplyConfiguration",
        "applyConfiguration": {
            "expression": "Object{spec: Object.spec{containers: object.spec.containers.map(c, "
            'Object.spec.containers{name: c.name, imagePullPolicy: "IfNotPresent"})}}'
        },
    }],
}  # fmt: skip
"""No registry serves the images, which are on the node, also those of the tag ``latest``."""
_PROCESSORS = """set -e
real=/sys/devices/system/node/node0
for copy in $(seq 0 "$0"); do
    to=/run/processors/node$copy
    for cpu in "$real"/cpu[0-9]*; do
        mkdir -p "$to/${cpu##*/}/topology"
        cp "$cpu/topology/core_id" "$cpu/topology/physical_package_id" "$to/${cpu##*/}/topology/"
    done
    mkdir "$to/hugepages"
    cp "$real/meminfo" "$to/"
done
mount --bind /run/processors /sys/devices/system/node
systemctl restart kubelet
"""
"""The kubelet adds up the processors of every NUMA node: it finds the machine's only one several times."""


def _enlarge(cluster: Kind, node: str) -> None:
    """The seed's sandboxes ask for a processor each: let the node say that it has enough of them."""
    here = os.cpu_count() or 1
    if here < ENOUGH:
        last = -(-ENOUGH // here) - 1
        command = ["docker", "exec", "--privileged", node, "bash", "-c", _PROCESSORS, str(last)]
        subprocess.run(command, check=True)
        wanted = f"jsonpath={{.status.allocatable.cpu}}={here * (last + 1)}"
        cluster.kubectl("wait", "node", "--all", f"--for={wanted}", "--timeout=120s")
        cluster.kubectl("wait", "node", "--all", "--for=condition=Ready", "--timeout=120s")


def _policy(name: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
    """A policy that changes pods when they are made, and what puts it into force."""
    api = "admissionregistration.k8s.io/v1"
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}
    general = {"matchConstraints": {"resourceRules": [pods]}, "failurePolicy": "Fail", "reinvocationPolicy": "Never"}
    return [
        {"apiVersion": api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": {**general, **spec}},
        {
            "apiVersion": api,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        },
    ]
