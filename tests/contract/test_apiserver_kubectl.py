"""The real kubectl against the API server, over TLS with the box's authority."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

KUBECTL = os.environ.get("APPLIANCE_TEST_KUBECTL") or shutil.which("kubectl")
pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(
        KUBECTL is None,
        reason="kubectl is missing: packaging/kubectl/build.sh makes it, APPLIANCE_TEST_KUBECTL names it",
    ),
]
SEED = Path(__file__).parents[1] / "e2e" / "seed" / "sandboxset.yaml"
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {a: b}}
spec:
  containers: [{name: c, image: "x:IMAGE", env: [{name: A, value: "1"}]}]
"""
Kubectl = Callable[..., str]


@pytest.fixture
def kubectl(apiserver: Any, namespace: str, tmp_path: Path) -> Kubectl:
    """Runs kubectl in the test's namespace and returns its output; ``ok=False`` expects a failure."""

    def run(*args: str, ok: bool = True, stdin: str | None = None, editor: str = "true") -> str:
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "EDITOR": editor,
            "KUBECONFIG": str(apiserver.kubeconfig),
        }
        command = [str(KUBECTL), "-n", namespace, *args]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, env=env, check=False)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + ("" if ok else done.stderr)

    return run


def pod(image: int) -> str:
    return POD.replace("IMAGE", str(image))


def test_seed_manifest(kubectl: Kubectl) -> None:
    """The seed's manifest applies as it is; get, scale, describe, edit, explain, patch and delete work on it."""
    manifest = SEED.read_text().replace("  namespace: default\n", "")
    assert "created" in kubectl("apply", "-f", "-", stdin=manifest)
    assert kubectl("get", "sbs").split()[:3] == ["NAME", "REPLICAS", "AVAILABLE"]
    kubectl("scale", "sbs", "code-interpreter", "--replicas=5")
    assert "Replicas:  5" in kubectl("describe", "sbs", "code-interpreter")
    kubectl("edit", "sbs", "code-interpreter", editor="sed -i 's/replicas: 5/replicas: 6/'")
    assert kubectl("get", "sbs", "code-interpreter", "-o", "jsonpath={.spec.replicas}") == "6"
    kubectl("patch", "sbs", "code-interpreter", "--type=merge", "-p", '{"spec":{"replicas":7}}')
    assert "FIELD: replicas <integer>" in kubectl("explain", "sbs.spec.replicas")
    assert "unchanged" not in kubectl("apply", "-f", "-", stdin=manifest)
    assert "unchanged" in kubectl("apply", "-f", "-", stdin=manifest)
    assert "deleted" in kubectl("delete", "sbs", "code-interpreter")


def test_typed_creates(kubectl: Kubectl) -> None:
    """kubectl's typed creates, which it sends as protobuf, arrive whole."""
    kubectl("create", "secret", "generic", "s", "--from-literal=key=value")
    assert json.loads(kubectl("get", "secret", "s", "-o", "json"))["data"] == {"key": "dmFsdWU="}
    kubectl("create", "configmap", "c", "--from-literal=a=b")
    assert kubectl("get", "cm", "c", "-o", "jsonpath={.data.a}") == "b"
    kubectl("create", "namespace", "by-kubectl")
    assert "deleted" in kubectl("delete", "namespace", "by-kubectl")


def test_pod_verbs(kubectl: Kubectl, apiserver: Any, namespace: str) -> None:
    """apply, diff, label, strategic patch, wait on a status condition, describe, get -w and forced delete."""
    kubectl("apply", "-f", "-", stdin=pod(1))
    assert "+    image: x:2" in kubectl("diff", "-f", "-", stdin=pod(2), ok=False)
    assert "configured" in kubectl("apply", "-f", "-", stdin=pod(2))
    kubectl("label", "pod", "p", "c=d")
    kubectl("patch", "pod", "p", "-p", '{"spec":{"containers":[{"name":"c","image":"x:3"}]}}')
    assert "x:3" in kubectl("describe", "pod", "p")
    condition = '{"status":{"phase":"Running","conditions":[{"type":"Ready","status":"True"}]}}'
    kubectl("patch", "pod", "p", "--subresource=status", "-p", condition)
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "pod/p", "--timeout=10s")
    assert "Running" in kubectl("get", "pods", "-l", "a=b,c=d", "--field-selector=status.phase=Running")
    assert "Running" in kubectl("get", "pods", "-w", "--request-timeout=1s")
    kubectl("delete", "pod", "p", "--force", "--grace-period=0")
    assert apiserver.request("GET", f"/api/v1/namespaces/{namespace}/pods/p")[0] == 404


def test_server_side(kubectl: Kubectl) -> None:
    """apply --server-side owns fields, meets conflicts, and wins them only by force."""
    kubectl("apply", "--server-side", "-f", "-", stdin=pod(1))
    kubectl("patch", "pod", "p", "-p", '{"spec":{"containers":[{"name":"c","image":"x:9"}]}}')
    said = kubectl("apply", "--server-side", "-f", "-", stdin=pod(2), ok=False)
    assert 'conflict with "kubectl-patch" using v1: .spec.containers[name="c"].image' in said
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=pod(2))
    assert kubectl("get", "pod", "p", "-o", "jsonpath={.spec.containers[0].image}") == "x:2"


def test_mistakes_are_named(kubectl: Kubectl) -> None:
    """Wrong fields and kinds that nobody serves are refused in words."""
    said = kubectl("apply", "-f", "-", stdin=pod(1).replace("image", "imagee"), ok=False)
    assert 'unknown field "spec.containers[0].imagee"' in said
    assert "widgets" in kubectl("get", "widgets", ok=False)
    assert "yes" in kubectl("auth", "can-i", "create", "pods")


def test_unknown_kinds_are_named(kubectl: Kubectl) -> None:
    """A manifest of a kind that does not exist fails with kubectl's own words for that, not with a broken download."""
    manifest = "apiVersion: agents.kruise.io/v1alpha1\nkind: SandboxClam\nmetadata: {name: x}\nspec: {}\n"
    for verb in ("apply", "create"):
        assert 'no matches for kind "SandboxClam"' in kubectl(verb, "-f", "-", stdin=manifest, ok=False)
