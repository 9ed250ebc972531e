"""Installing on a real kube-apiserver with RBAC: accepted, enough for the roles, repeatable, and taken off again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_servers import ApiServer
from kubectl import Kubectl

from appliance.install.command import manifests
from appliance.install.values import parse

pytestmark = [pytest.mark.realkube, pytest.mark.timeout(240)]
ROOT = Path(__file__).parents[2]
SYSTEM = ("-n", "sandbox-system")
SANDBOX = {
    "apiVersion": "agents.kruise.io/v1alpha1",
    "kind": "Sandbox",
    "metadata": {"name": "kept", "namespace": "default"},
    "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
}


@pytest.fixture
def shared(real_apiserver: ApiServer) -> Iterator[ApiServer]:
    """The session's kube-apiserver; what a test installs there is taken off again."""
    yield real_apiserver
    assert appliance(real_apiserver, "uninstall", "--yes").returncode == 0


@pytest.fixture
def server(own_real: Callable[..., ApiServer]) -> ApiServer:
    """A kube-apiserver of this test's own, on which nothing of the program is installed."""
    return own_real(crds=False)


def appliance(server: ApiServer, *arguments: str, kubeconfig: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the program against the server."""
    command = [sys.executable, "-m", "appliance", *arguments, "--kubeconfig", str(kubeconfig or server.kubeconfig)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL
    )


def test_kubectl_takes_every_manifest(shared: ApiServer) -> None:
    """Server-side apply with strict validation takes all of them, twice, and the accounts may do what was rendered."""
    kubectl = Kubectl(shared.kubeconfig)
    values = {"domain": "sandboxes.example", "tls": {"secretName": "tls"}, "createNamespace": True}
    values |= {"ingress": {"enabled": True}, "apiKey": "e2b_" + "5" * 40}
    stream = yaml.safe_dump_all(manifests(parse(values)))
    for _ in range(2):
        kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=stream)
    account = "--as=system:serviceaccount:sandbox-system:sandbox-manager"
    assert kubectl("auth", "can-i", "patch", "sandboxes.agents.kruise.io", "-n", "default", account).strip() == "yes"
    assert kubectl.try_("auth", "can-i", "list", "secrets", "-n", "default", account).stdout.strip() == "no"


def test_apply_diff_and_uninstall(server: ApiServer) -> None:
    """The whole life of an installation; sandboxes outlive an upgrade and an uninstall, until they are meant."""
    kubectl = Kubectl(server.kubeconfig)
    before = appliance(server, "install", "--diff")
    assert before.returncode == 3
    assert "+kind: Deployment" in before.stdout

    first = appliance(server, "install", "--apply", "--image", "registry.example/appliance:1")
    assert first.returncode == 0, first.stderr
    assert "the first API key is e2b_" in first.stdout
    key = kubectl("get", "secret", "appliance-api-key", *SYSTEM, "-o", "jsonpath={.data.api-key}")
    assert appliance(server, "install", "--diff", "--image", "registry.example/appliance:1").returncode == 0
    again = appliance(server, "install", "--apply", "--image", "registry.example/appliance:1")
    assert {line.rpartition(" ")[2] for line in again.stdout.splitlines()} == {"unchanged"}

    kubectl("create", "-f", "-", stdin=json.dumps(SANDBOX))
    uid = ("get", "sandbox", "kept", "-o", "jsonpath={.metadata.uid}")
    born = kubectl(*uid)
    newer = ("--image", "registry.example/appliance:2", "--managers", "3")
    changed = appliance(server, "install", "--diff", *newer)
    assert changed.returncode == 3
    assert "-  replicas: 2" in changed.stdout
    assert "+  replicas: 3" in changed.stdout
    assert key not in changed.stdout
    upgraded = appliance(server, "install", "--apply", *newer)
    assert "deployment/sandbox-manager in sandbox-system configured" in upgraded.stdout
    assert "customresourcedefinition/sandboxes.agents.kruise.io unchanged" in upgraded.stdout
    assert kubectl(*uid) == born
    assert kubectl("get", "secret", "appliance-api-key", *SYSTEM, "-o", "jsonpath={.data.api-key}") == key

    asked = appliance(server, "uninstall")
    assert asked.returncode == 1
    assert "deployment/sandbox-manager in sandbox-system" in asked.stdout
    assert "nothing was deleted" in asked.stderr
    assert kubectl("get", "deployments", *SYSTEM, "-o", "name").count("deployment") == 2
    done = appliance(server, "uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert kubectl("get", "deployments,services,serviceaccounts,roles", *SYSTEM, "-o", "name") in ("", "\n")
    assert "sandbox-manager" not in kubectl("get", "clusterroles,clusterrolebindings", "-o", "name")
    assert kubectl(*uid) == born
    assert "appliance-sandboxes" in kubectl("get", "networkpolicies", "-n", "default", "-o", "name")

    gone = appliance(server, "uninstall", "--yes", "--delete-sandboxes")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert "1 sandboxes, running ones included" in gone.stdout
    assert kubectl("get", "crd", "-o", "name").strip() == ""
    assert "appliance-sandboxes" not in kubectl("get", "networkpolicies", "-A", "-o", "name")
    assert appliance(server, "uninstall", "--yes").stdout == "nothing of this program is installed here\n"


def test_a_field_of_somebody_else_is_not_taken_silently(shared: ApiServer) -> None:
    """A conflict names object, field and flag; with the flag it is taken over."""
    kubectl = Kubectl(shared.kubeconfig)
    assert appliance(shared, "install", "--apply").returncode == 0
    patch = json.dumps({"spec": {"replicas": 5}})
    kubectl("patch", "deployment", "sandbox-manager", *SYSTEM, "--field-manager=somebody", "-p", patch)
    refused = appliance(shared, "install", "--apply")
    assert refused.returncode == 1
    for word in ("deployment/sandbox-manager", "somebody", ".spec.replicas", "--force-conflicts"):
        assert word in refused.stderr
    assert appliance(shared, "install", "--apply", "--force-conflicts").returncode == 0
    assert kubectl("get", "deployment", "sandbox-manager", *SYSTEM, "-o", "jsonpath={.spec.replicas}") == "2"


def test_a_missing_permission_is_named(shared: ApiServer, tmp_path: Path) -> None:
    """An account that may not install reads which object it may not write, and who may."""
    kubectl = Kubectl(shared.kubeconfig)
    kubectl("create", "serviceaccount", "weak", "-n", "default")
    config: dict[str, Any] = json.loads(shared.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": kubectl("create", "token", "weak", "-n", "default").strip()}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    refused = appliance(shared, "install", "--apply", kubeconfig=path)
    assert refused.returncode == 1
    assert 'namespace/sandbox-system: namespaces "sandbox-system" is forbidden' in refused.stderr
    assert "cluster administrator" in refused.stderr


def test_pods_that_do_not_come_up_are_said(shared: ApiServer) -> None:
    """Where no node runs them, --wait ends with the count and where to look."""
    said = appliance(shared, "install", "--apply", "--wait", "1")
    assert said.returncode == 1
    assert "0 of 2 pods available after 1 s" in said.stderr
    assert "describe pods" in said.stderr
