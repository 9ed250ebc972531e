"""The product on a cluster, as a user installs it: its image, ``appliance install``, an API key, the Service.

Every role runs as pods of our own image under the service account of our manifests. The only things done beside the
README are what stands in for a registry (images are imported, or served by the node's mirror).
"""

from __future__ import annotations

import http.client
import json
import subprocess
import time
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from appliance.api import labels
from appliance.api.ids import new_api_key
from appliance.install.command import manifests
from appliance.install.rbac import CONTROLLER, MANAGER
from appliance.install.values import parse
from realnode import images
from realnode.cluster import RealNode

DEPLOYMENTS = (CONTROLLER, MANAGER)
SEED = images.ROOT / "tests" / "e2e" / "seed" / "sandboxset.yaml"


class Cluster(Protocol):
    """What an installation needs of a cluster."""

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""

    @property
    def kubectl_program(self) -> str:
        """A kubectl that fits."""

    @property
    def shelve(self) -> Callable[[Path], None] | None:
        """Brings the image of an archive to where its pods find it; None where that is not ours to do."""

    def relay(self, name: str, host: str, port: int) -> str:
        """An address on this machine that leads to a Service."""

    def run(
        self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program where ``Cloud.service`` can be reached."""


@dataclass
class Cloud:
    """An installed product: how its clients reach it, and kubectl as administrator."""

    cluster: Cluster
    api_key: str
    address: str
    """Address of the managers' Service on this machine."""
    service: str
    """The Service's address where the cluster's ``run`` runs programs: inside, if it can."""

    def env(self, *, inside: bool = False) -> dict[str, str]:
        """What SDKs need; ``inside``: for programs that the cluster's ``run`` runs."""
        url = f"http://{self.service if inside else self.address}"
        return {"E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_API_KEY": self.api_key}

    def kubectl(self, *words: str, stdin: str | None = None, timeout: float = 180, check: bool = True) -> str:
        """Standard output of a kubectl command; with ``check``, one that must succeed."""
        command = [self.cluster.kubectl_program, "--kubeconfig", str(self.cluster.kubeconfig), *words]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(words)}: {done.stderr}{done.stdout}")
        return done.stdout

    def get(self, *words: str) -> Any:
        """Decoded JSON of ``kubectl get``."""
        return json.loads(self.kubectl("get", *words, "-o", "json"))

    def find(self, *words: str) -> Any:
        """The same, or None when there is no such object."""
        found = self.kubectl("get", *words, "-o", "json", "--ignore-not-found")
        return json.loads(found) if found else None

    def apply(self, *objects: dict[str, Any]) -> None:
        """Server-side apply."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=yaml.safe_dump_all(objects))

    def create_raw(self, path: str, body: dict[str, Any], *flags: str) -> None:
        """POST to a path of the API; ``flags`` of kubectl may name somebody to act as."""
        self.kubectl("create", "--raw", path, "-f", "-", *flags, stdin=json.dumps(body))

    def events(self, namespace: str, name: str) -> list[tuple[str, str]]:
        """(reason, message) of the events about an object of that name."""
        found = self.get("events", "-n", namespace, "--field-selector", f"involvedObject.name={name}")["items"]
        return [(item["reason"], item.get("message", "")) for item in found]

    def rollout(self) -> None:
        """Until every replica of every role is available."""
        for name in DEPLOYMENTS:
            self.kubectl("-n", labels.SYSTEM_NAMESPACE, "rollout", "status", f"deploy/{name}", "--timeout=170s")

    def await_service(self) -> None:
        """Until every replica is available, and the Service leads to one that answers."""
        self.rollout()

        def answers() -> bool:
            try:
                with urllib.request.urlopen(f"http://{self.address}/health", timeout=10) as answer:
                    return bool(answer.status < 300)
            except (OSError, http.client.HTTPException):
                return False

        self.until(answers, "the managers' Service answers")

    def await_pool(self, name: str, members: int, namespace: str = "default", timeout: float = 300.0) -> None:
        """Until that many members can be claimed: by the sandboxes themselves, for the set's status is told later."""

        def available() -> bool:
            found = self.get("sbx", "-n", namespace, "-l", f"{labels.TEMPLATE}={name}")["items"]
            return len([one for one in found if _claimable(one)]) >= members

        self.until(available, f"{members} available in pool {name}", timeout)

    def until(self, done: Callable[[], Any], what: str, timeout: float = 120.0) -> Any:
        """The first true answer of ``done``; on time-out fails with what the cluster says."""
        deadline = time.monotonic() + timeout
        while not (answer := done()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:g} s: {what}\n{self.picture()}")
            time.sleep(0.25)
        return answer

    def picture(self) -> str:
        """Objects, and the end of what the roles say."""
        shown = self.kubectl("get", "pods,sbx,sbs", "-A", check=False)
        selector = ("-l", "app.kubernetes.io/name=appliance", "--prefix", "--tail=40")
        return shown + self.kubectl("-n", labels.SYSTEM_NAMESPACE, "logs", *selector, check=False)


def start(node: RealNode, directory: Path) -> Cloud:
    """Bring the node up and install the product in it, from an image built into ``directory``."""
    own = images.appliance(directory / "appliance.tar")
    sandbox = images.sandbox()
    node.up((own,))
    node.shelve(sandbox)
    return install(node)


def attach(root: Path) -> Cloud:
    """The cloud of ``packaging/cluster.sh up``, as it runs."""
    node = RealNode(root, detached=True)
    exports = dict(line.removeprefix("export ").split("=", 1) for line in (root / "env").read_text().splitlines())
    cloud = Cloud(node, exports["E2B_API_KEY"], exports["E2B_API_URL"].removeprefix("http://"), "")
    cloud.service = f"{cloud.get('-n', labels.SYSTEM_NAMESPACE, 'service', MANAGER)['spec']['clusterIP']}:80"
    return cloud


def install(cluster: Cluster, *, image: str = images.APPLIANCE, **values: Any) -> Cloud:
    """Apply the manifests and wait for every replica. The images are there already."""
    cloud = Cloud(cluster, "", "", "")
    cloud.api_key = _first_key(cloud) or new_api_key()
    cloud.apply(*manifests(parse({"image": image, "createNamespace": True, "apiKey": cloud.api_key, **values})))
    cloud.rollout()
    address = cloud.get("-n", labels.SYSTEM_NAMESPACE, "service", MANAGER)["spec"]["clusterIP"]
    cloud.service = f"{address}:80"
    cloud.address = cluster.relay("manager", address, 80)
    return cloud


def _claimable(sandbox: dict[str, Any]) -> bool:
    meta, said = sandbox["metadata"], sandbox.get("status", {}).get("conditions", [])
    taken = meta["labels"].get(labels.CLAIMED) == "true" or "deletionTimestamp" in meta
    return not taken and any(one["type"] == "Ready" and one["status"] == "True" for one in said)


def _first_key(cloud: Cloud) -> str | None:
    """The key of an installation that is there already: its managers keep the one they began with."""
    found = cloud.find("secret", "appliance-api-key", "-n", labels.SYSTEM_NAMESPACE)
    return None if found is None else b64decode(found["data"]["api-key"]).decode()


def seed(replicas: int, **changes: Any) -> dict[str, Any]:
    """The seed's SandboxSet, verbatim but for its replicas and, in its container, ``changes``."""
    found: dict[str, Any] = yaml.safe_load(SEED.read_text())
    found["spec"]["replicas"] = replicas
    found["spec"]["template"]["spec"]["containers"][0].update(changes)
    return found
