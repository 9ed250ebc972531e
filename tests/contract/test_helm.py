"""The chart in the hands of Helm itself: it lints, refuses bad values, renders what the command prints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_servers import ApiServer
from kubectl import Kubectl

from appliance import __version__
from appliance.install.command import manifests
from appliance.install.values import parse

CHART = Path(__file__).parents[2] / "packaging" / "helm"
HELM = os.environ.get("APPLIANCE_TEST_HELM")
pytestmark = [
    pytest.mark.helm,
    pytest.mark.skipif(not HELM, reason="APPLIANCE_TEST_HELM is not set: packaging/go-tools.sh helm prints its path"),
]
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "all": {
        "createNamespace": True,
        "image": "registry.example:5000/appliance@sha256:" + "0" * 64,
        "imagePullPolicy": "Always",
        "imagePullSecrets": ["one", "two"],
        "runtimeImage": "registry.example/runtime:1",
        "domain": "sbx.example:8443",
        "apiKey": "e2b_'\"{{.Values.image}}%d\\",
        "apiKeySecret": "first",
        "tls": {"secretName": "wild"},
        "managers": {"replicas": 7, "resources": {"limits": {"cpu": 2, "memory": "3Gi"}, "requests": {"cpu": 0.5}}},
        "controllers": {"replicas": 1},
        "service": {"type": "LoadBalancer", "annotations": {"a.example/b": "yes", "c": "0"}},
        "ingress": {"enabled": True, "className": "nginx", "tlsSecretName": "wild", "annotations": {"d": "{{ e }}"}},
        "sandboxNamespaces": ["default", "team-a", "team-b"],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "sandboxes", "operator": "Exists", "tolerationSeconds": 30}],
    },
    "least": {
        "crds": {"install": False},
        "networkPolicies": {"enabled": False},
        "managers": {"replicas": 1, "resources": {"limits": {"memory": None}}},
        "ingress": {"annotations": {"nginx.ingress.kubernetes.io/proxy-body-size": None}},
        "sandboxNamespaces": [],
    },
    "ingress without tls": {"domain": "sbx.example", "ingress": {"enabled": True}, "apiKey": "12345678"},
}


def helm(*arguments: str, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run Helm with its configuration in ``home``."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    command = [str(HELM), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def identity(document: dict[str, Any]) -> tuple[str, str, str]:
    """What makes an object the same one."""
    meta = document["metadata"]
    return document["kind"], meta.get("namespace", ""), meta["name"]


def test_helm_finds_nothing_to_complain_about(tmp_path: Path) -> None:
    """helm lint --strict is content with the chart, its values and their schema."""
    said = helm("lint", "--strict", str(CHART), home=tmp_path).stdout
    assert "1 chart(s) linted, 0 chart(s) failed" in said


@pytest.mark.parametrize("name", list(SETS))
def test_both_ways_render_the_same(name: str, tmp_path: Path) -> None:
    """Object by object, Helm's rendering is that of the command, for the same values."""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(SETS[name]))
    said = helm("template", "appliance", str(CHART), "-n", "sandbox-system", "-f", str(path), home=tmp_path).stdout
    theirs = [document for document in yaml.safe_load_all(said) if document]
    ours = manifests(parse(SETS[name]))
    assert sorted(map(identity, theirs)) == sorted(map(identity, ours))
    by_identity = {identity(document): document for document in ours}
    for document in theirs:
        assert document == by_identity[identity(document)]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("managers.replicas=0", "replicas"),
        ("managrs.replicas=2", "managrs"),
        ("domain=not a name", "domain"),
        ("ingress.enabled=true", "domain"),
        ("apiKey=short", "apiKey"),
    ],
)
def test_helm_refuses_what_the_command_refuses(setting: str, named: str, tmp_path: Path) -> None:
    """Bad values do not reach the cluster on either way; the refusal names the value."""
    done = helm("template", "appliance", str(CHART), "--set", setting, home=tmp_path, check=False)
    assert done.returncode != 0
    assert named in done.stderr
    key, _, value = setting.partition("=")
    nested: Any = yaml.safe_load(value)
    for part in reversed(key.split(".")):
        nested = {part: nested}
    with pytest.raises(ValueError, match=named):
        parse(nested)


@pytest.mark.realkube
@pytest.mark.timeout(240)
def test_an_upgrade_and_an_uninstall_keep_every_sandbox(own_real: Callable[..., ApiServer], tmp_path: Path) -> None:
    """Helm itself, on a real API server: from an older chart to this one, then away; sandboxes and definitions stay."""
    server = own_real(crds=False)
    kubectl = Kubectl(server.kubeconfig)
    older = tmp_path / "older"
    shutil.copytree(CHART, older)
    description = (CHART / "Chart.yaml").read_text()
    (older / "Chart.yaml").write_text(description.replace(f"version: {__version__}", "version: 0.0.9"))
    network = older / "templates/network.yaml"
    network.write_text(network.read_text().replace("10.0.0.0/8", "10.1.0.0/16"))
    release = ("appliance", "-n", "sandbox-system", "--kubeconfig", str(server.kubeconfig))
    first = ("--create-namespace", "--set", "apiKey=e2b_first")
    helm("install", release[0], str(older), *release[1:], *first, home=tmp_path)
    sandbox = {
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": "kept", "namespace": "default"},
        "spec": {"template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(sandbox))
    uid = ("get", "sandbox", "kept", "-o", "jsonpath={.metadata.uid}")
    crd = ("get", "crd", "sandboxes.agents.kruise.io", "-o", "jsonpath={.metadata.uid}")
    key = ("get", "secret", "appliance-api-key", "-n", "sandbox-system", "-o", "jsonpath={.data.api-key}")
    before = [kubectl(*uid), kubectl(*crd), kubectl(*key)]
    helm("upgrade", release[0], str(CHART), *release[1:], "--set", "managers.replicas=3", home=tmp_path)
    assert kubectl("get", "deployment", "sandbox-manager", *release[1:3], "-o", "jsonpath={.spec.replicas}") == "3"
    assert "10.0.0.0/8" in kubectl("get", "networkpolicy", "appliance-sandboxes", "-n", "default", "-o", "yaml")
    assert [kubectl(*uid), kubectl(*crd), kubectl(*key)] == before
    helm("uninstall", *release, home=tmp_path)
    assert [kubectl(*uid), kubectl(*crd), kubectl(*key)] == before
    assert "sandbox-manager" not in kubectl("get", "deployments", "-A", "-o", "name")
