"""The chart in the hands of Helm itself: it lints, refuses bad values, renders what the command prints."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

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
