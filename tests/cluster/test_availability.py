"""Parts of the control plane end while sandboxes are used: nobody who has a sandbox notices, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cutting import CuttingRelay
from e2b_code_interpreter import Sandbox
from realnode import images, pki
from realnode.cluster import RealNode
from realnode.configs import PAUSE_IMAGE
from realnode.roles import DEPLOYMENTS, Cloud
from steady import Steady

from appliance.api import labels
from appliance.install.rbac import CONTROLLER

pytestmark = [pytest.mark.realnode, pytest.mark.timeout(600), pytest.mark.usefixtures("undisturbed")]
SYSTEM = ("-n", labels.SYSTEM_NAMESPACE)
CLIENTS = 2


def small_pool(name: str, namespace: str, replicas: int) -> dict[str, Any]:
    """A pool of sandboxes without a runtime, which start at once."""
    main = {"name": "main", "image": PAUSE_IMAGE, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    return {
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxSet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [main]}},
        },
    }


def leader(cloud: Cloud) -> str:
    """The pod that holds the controllers' lease."""
    holder: str = cloud.get("lease", "appliance-controller", *SYSTEM)["spec"].get("holderIdentity") or ""
    return holder.rpartition("-")[0]


def nothing_twice(cloud: Cloud, namespace: str, members: int) -> None:
    """That many sandboxes, each with one pod of its own."""
    names = sorted(item["metadata"]["name"] for item in cloud.get("sbx", "-n", namespace)["items"])
    pods = sorted(item["metadata"]["name"] for item in cloud.get("pods", "-n", namespace)["items"])
    assert (len(names), pods) == (members, names)


def test_rolling_restart_of_every_deployment_under_load(sdk: Cloud) -> None:
    """Every manager and controller is replaced while clients work: not one SDK call fails."""
    with Steady(CLIENTS) as clients:
        for name in DEPLOYMENTS:
            sdk.kubectl(*SYSTEM, "rollout", "restart", f"deploy/{name}")
        sdk.rollout()
        clients.wait_for_calls(8 * CLIENTS)
    assert clients.failures == []


def test_the_leader_is_lost_in_the_middle_of_its_work(cloud: Cloud, namespace: str) -> None:
    """Killed without a goodbye while a pool grows: the other controller finishes it, and nothing was made twice."""
    lost = cloud.until(lambda: leader(cloud), "a leader")
    cloud.apply(small_pool("pool", namespace, 12))
    cloud.until(lambda: len(cloud.get("sbx", "-n", namespace)["items"]) >= 1, "the pool began to grow")
    cloud.kubectl(*SYSTEM, "delete", "pod", lost, "--grace-period=0", "--force")
    cloud.await_pool("pool", 12, namespace)
    assert leader(cloud) not in ("", lost)
    nothing_twice(cloud, namespace, 12)
    cloud.rollout()


def test_the_api_server_restarts(sdk: Cloud, node: RealNode) -> None:
    """Killed and started again: data-plane calls go on meanwhile, and the control API works afterwards."""
    with Steady(CLIENTS, control=False) as clients:
        node.stop("kube-apiserver", signal.SIGKILL)
        clients.wait_for_calls(4 * CLIENTS)
        node.start("kube-apiserver")
        node.await_api()
        clients.wait_for_calls(4 * CLIENTS)
    assert clients.failures == []
    _creates_again(sdk)


def test_etcd_is_away_for_thirty_seconds(sdk: Cloud, node: RealNode) -> None:
    """Half a minute without the store: who has a sandbox uses it all the while; afterwards everything goes on."""
    with Steady(CLIENTS, control=False) as clients:
        began = time.monotonic()
        node.stop("etcd", signal.SIGKILL)
        while time.monotonic() - began < 30:
            clients.wait_for_calls(CLIENTS)
        node.start("etcd")
        node.await_api()
        clients.wait_for_calls(4 * CLIENTS)
    assert clients.failures == []
    sdk.rollout()
    _creates_again(sdk)


def _creates_again(cloud: Cloud) -> None:
    """The control API delivers, and every role is up."""

    def created() -> Sandbox | None:
        try:
            return Sandbox.create(template="code-interpreter", timeout=300, request_timeout=60)
        except Exception:  # an outage answer until the roles have found the API server again
            return None

    sandbox = cloud.until(created, "a sandbox is delivered")
    assert sandbox.commands.run("echo back").stdout == "back\n"
    sandbox.kill()
    cloud.await_service()  # a node that could not report for so long was taken out of the Service, and is back


@pytest.fixture
def cut_controller(cloud: Cloud, node: RealNode, tmp_path: Path) -> Iterator[CuttingRelay]:
    """One controller, outside of the cluster, whose every connection to the API server can be cut."""
    relay = CuttingRelay(node.address("api"))
    config = tmp_path / "kubeconfig"
    config.write_text(pki.kubeconfig(node.layout, "admin", f"https://{relay.address}"))
    cloud.kubectl(*SYSTEM, "scale", f"deploy/{CONTROLLER}", "--replicas=0")
    cloud.until(lambda: _pods_of(cloud, CONTROLLER) == [], "the controllers of the cluster are gone")
    command = [sys.executable, "-m", "appliance", "--role=controller", f"--kubeconfig={config}"]
    env = {**os.environ, "KUBECONFIG": str(config), "APPLIANCE_RUNTIME_IMAGE": images.APPLIANCE}  # as in its Deployment
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
    yield relay
    ended = process.poll()
    process.terminate()
    process.wait(60)
    relay.close()
    cloud.kubectl(*SYSTEM, "scale", f"deploy/{CONTROLLER}", "--replicas=2")
    cloud.rollout()
    assert ended is None, f"the controller gave up: {(tmp_path / 'log').read_text()[-3000:]}"


def _pods_of(cloud: Cloud, component: str) -> list[str]:
    listed = cloud.get("pods", *SYSTEM, "-l", f"app.kubernetes.io/component={component}")["items"]
    return [item["metadata"]["name"] for item in listed]


def test_watches_are_cut_every_second(cloud: Cloud, cut_controller: CuttingRelay, namespace: str) -> None:
    """The controller grows and shrinks a pool while it loses every connection once a second; it ends as asked."""
    cut = 0
    for members in (6, 2, 5):
        cloud.apply(small_pool("pool", namespace, members))
        end = time.monotonic() + 90
        while not _settled(cloud, namespace, members):
            assert time.monotonic() < end, f"not {members} members: {cloud.picture()}"
            time.sleep(1)
            cut += cut_controller.cut()
    assert cut >= 3, "nothing was cut"
    nothing_twice(cloud, namespace, 5)


def _settled(cloud: Cloud, namespace: str, members: int) -> bool:
    found = json.loads(cloud.kubectl("get", "sbs,sbx,pods", "-n", namespace, "-o", "json"))["items"]
    kinds = [item["kind"] for item in found]
    pool = next(item for item in found if item["kind"] == "SandboxSet")
    counts = (pool.get("status", {}).get("availableReplicas", 0), kinds.count("Sandbox"), kinds.count("Pod"))
    return counts == (members, members, members)
