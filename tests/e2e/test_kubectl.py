"""What people do with kubectl, done with a real kubectl against the embedded cluster of a running box."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import RunningBox
from kubectl import Kubectl
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.kubectl]

CLAIM = """\
apiVersion: agents.kruise.io/v1alpha1
kind: SandboxClaim
metadata: {name: two, namespace: default}
spec:
  templateName: code-interpreter
  replicas: 2
  claimTimeout: 30s
  labels: {team: red}
"""


@pytest.fixture
def kubectl(box: RunningBox) -> Kubectl:
    """kubectl with the box's administrator kubeconfig."""
    if "APPLIANCE_TEST_KUBECTL" not in os.environ:
        pytest.skip("APPLIANCE_TEST_KUBECTL is unset; packaging/test.sh builds kubectl and sets it")
    return Kubectl(box.kubeconfig)


def test_get_shows_the_columns(kubectl: Kubectl) -> None:
    """Short names work and every kind prints the columns of the existing system."""
    assert kubectl("get", "sbs").splitlines()[0].split()[:6] == [
        "NAME", "REPLICAS", "AVAILABLE", "UPDATEDREPLICAS", "UPDATEDAVAILABLEREPLICAS", "UPDATEREVISION",
    ]  # fmt: skip
    header = kubectl("get", "sbx").splitlines()[0].split()
    assert header[:4] == ["NAME", "STATUS", "AGE", "CLAIMED"]
    assert "NAME" in kubectl("get", "nodes")


def test_scale_and_wait(kubectl: Kubectl, box: RunningBox) -> None:
    """kubectl scale grows and shrinks the pool; kubectl wait sees a sandbox become ready."""
    before = int(kubectl("get", "sbs", "code-interpreter", "-o", "jsonpath={.spec.replicas}"))
    kubectl("scale", "sbs", "code-interpreter", f"--replicas={before + 2}")

    def available() -> int:
        return int(kubectl("get", "sbs", "code-interpreter", "-o", "jsonpath={.status.availableReplicas}") or 0)

    eventually(lambda: available() == before + 2)
    name = kubectl("get", "sbx", "-o", "name").splitlines()[0]
    assert "condition met" in kubectl("wait", "--for=condition=Ready", name, "--timeout=30s")
    kubectl("scale", "sbs", "code-interpreter", f"--replicas={before}")
    eventually(lambda: available() == before)


def test_claim_by_apply(kubectl: Kubectl) -> None:
    """Applying a SandboxClaim takes sandboxes from the pool and names them in its status."""
    kubectl("apply", "-f", "-", stdin=CLAIM)
    assert "condition met" in kubectl("wait", "--for=condition=Completed", "sbc/two", "--timeout=60s")
    claim = json.loads(kubectl("get", "sbc", "two", "-o", "json"))
    assert claim["status"]["claimedReplicas"] == 2
    names = {entry["name"] for entry in claim["status"]["claimedSandboxes"]}
    labelled = kubectl("get", "sbx", "-l", "agents.kruise.io/claim-name=two,team=red", "-o", "name").split()
    assert {name.rsplit("/", 1)[1] for name in labelled} == names
    kubectl("delete", "sbx", *names)
    kubectl("delete", "sbc", "two")


def test_describe_explain_edit_logs_exec(kubectl: Kubectl, tmp_path: Path) -> None:
    """The commands operators live in answer with substance."""
    assert "Available Replicas" in kubectl("describe", "sbs", "code-interpreter")
    assert "replicas" in kubectl("explain", "sbs.spec")
    assert "paused" in kubectl("explain", "sandbox.spec.paused")
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/^metadata:/metadata:\\n  labels: {edited: "yes"}/\' "$1"\n')
    editor.chmod(0o755)
    assert "edited" in kubectl("edit", "sbs", "code-interpreter", env={"EDITOR": str(editor)})
    pod = kubectl("get", "pods", "-o", "name").splitlines()[0]
    assert "uid=0" in kubectl("exec", pod, "--", "id")
    assert "hello" in kubectl("exec", "-i", pod, "--", "cat", stdin="hello")
    failed = kubectl.try_("exec", pod, "--", "sh", "-c", "exit 3")
    assert failed.returncode == 3
    kubectl("logs", pod)


def test_invalid_manifests_name_the_field(kubectl: Kubectl) -> None:
    """A wrong value, a wrong type and an unknown field are refused by name, and unknown kinds too."""
    wrong = CLAIM.replace("replicas: 2", "replicas: 0")
    assert "spec.replicas" in kubectl.try_("apply", "-f", "-", stdin=wrong).stderr
    wrong = CLAIM.replace("replicas: 2", "replicas: many")
    assert "spec.replicas" in kubectl.try_("apply", "-f", "-", stdin=wrong).stderr
    wrong = CLAIM.replace("replicas: 2", "replica: 2")
    assert "spec.replica" in kubectl.try_("apply", "-f", "-", stdin=wrong).stderr
    wrong = CLAIM.replace("SandboxClaim", "SandboxClam")
    assert "SandboxClam" in kubectl.try_("apply", "-f", "-", stdin=wrong).stderr


@pytest.fixture
def seed(kubectl: Kubectl) -> Iterator[str]:
    """The seed's manifest, applied; afterwards the pool has its small size again."""
    before = kubectl("get", "sbs", "code-interpreter", "-o", "jsonpath={.spec.replicas}")
    yield kubectl("apply", "-f", str(Path(__file__).parent / "seed" / "sandboxset.yaml"))
    kubectl("scale", "sbs", "code-interpreter", f"--replicas={before}")


def test_the_seed_manifest_gives_a_hundred_sandboxes(kubectl: Kubectl, seed: str) -> None:
    """The manifest of the seed, verbatim, ends in 100 available sandboxes, and the node says what requests mean."""
    assert "sandboxset.agents.kruise.io/code-interpreter configured" in seed

    def all_available() -> bool:
        """100 of 100 available"""
        return kubectl("get", "sbs", "code-interpreter", "-o", "jsonpath={.status.updatedAvailableReplicas}") == "100"

    eventually(all_available, timeout=180)
    assert "not reservations" in kubectl("describe", "node")
