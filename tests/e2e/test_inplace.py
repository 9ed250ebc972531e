"""In-place upgrades on a box: the seed's program with another image, claims, resources, failures, more than once."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import write_archive
from boxes import RunningBox, run_appliance
from e2b import Sandbox
from e2b.exceptions import SandboxException
from kubectl import Kubectl
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.kubectl]
IMAGE = "e2b.agents.kruise.io/image"


@pytest.fixture(scope="module")
def images(box: RunningBox, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two images, loaded as users load them."""
    directory = tmp_path_factory.mktemp("archives")
    for name in ("red", "blue"):
        archive = write_archive(directory / f"{name}.tar", f"colours/{name}:1", marker=name)
        run_appliance("image", "load", str(archive), "--data-dir", str(box.data_dir))


@pytest.fixture
def kubectl(box: RunningBox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubectl]:
    """kubectl as the administrator; the SDK finds the box in its environment."""
    if "APPLIANCE_TEST_KUBECTL" not in os.environ:
        pytest.skip("APPLIANCE_TEST_KUBECTL is unset; packaging/test.sh builds kubectl and sets it")
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    yield Kubectl(box.kubeconfig)


def sandbox_object(kubectl: Kubectl, sandbox_id: str) -> dict[str, Any]:
    items = json.loads(kubectl("get", "sbx", "-l", f"agents.kruise.io/sandbox-id={sandbox_id}", "-o", "json"))["items"]
    assert len(items) == 1
    found: dict[str, Any] = items[0]
    return found


def condition(kubectl: Kubectl, name: str, kind: str) -> tuple[str, str, str]:
    status = json.loads(kubectl("get", "sbx", name, "-o", "json")).get("status", {})
    found = [item for item in status.get("conditions", []) if item["type"] == kind]
    return (found[0]["status"], found[0]["reason"], found[0]["message"]) if found else ("", "", "")


def test_the_seed_program_with_another_image(kubectl: Kubectl, images: None) -> None:
    """§2.2.1: create with metadata image answers with a sandbox of that image that has its token and environment."""
    sbx = Sandbox.create(
        template="code-interpreter", timeout=300, envs={"COLOUR": "ours"}, metadata={IMAGE: "colours/red:1"}
    )
    try:
        result = sbx.commands.run("cat /etc/marker; echo $COLOUR $MARKER")
        assert result.stdout == "red" + "ours red\n"
        sbx.files.write("/tmp/note", "kept")
        assert sbx.files.read("/tmp/note") == "kept"
        found = sandbox_object(kubectl, sbx.sandbox_id)
        assert "templateRef" not in found["spec"]
        assert condition(kubectl, found["metadata"]["name"], "InplaceUpdate")[:2] == ("True", "Succeeded")
    finally:
        sbx.kill()


def test_an_image_that_is_not_there_fails_in_words(kubectl: Kubectl, images: None) -> None:
    """The error names the image and what to do, comes soon, and leaves neither sandbox nor pod."""
    with pytest.raises(SandboxException) as failed:
        Sandbox.create(template="code-interpreter", timeout=300, metadata={IMAGE: "colours/none:1"})
    assert "400" in str(failed.value) and "colours/none:1" in str(failed.value)
    assert "appliance image load" in str(failed.value)

    def gone() -> bool:
        return "colours/none" not in kubectl("get", "pods,sbx", "-o", "json")

    eventually(gone)


def test_a_running_sandbox_is_upgraded_twice_and_keeps_its_token_address_and_volumes(
    kubectl: Kubectl, images: None
) -> None:
    """Editing spec.template of a claimed sandbox: same pod, same address, shared volume kept, same token, twice."""
    with Sandbox.create(template="code-interpreter", timeout=300, metadata={IMAGE: "colours/red:1"}) as sbx:
        name = sandbox_object(kubectl, sbx.sandbox_id)["metadata"]["name"]
        pod = json.loads(kubectl("get", "pod", name, "-o", "json"))
        sbx.commands.run("echo 1 > /mnt/agent-runtime/kept; echo 1 > /tmp/lost", user="root")
        for image, marker in (("colours/blue:1", "blue"), ("colours/red:1", "red")):
            patch = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}]
            kubectl("patch", "sbx", name, "--type=json", "-p", json.dumps(patch))
            generation = json.loads(kubectl("get", "sbx", name, "-o", "json"))["metadata"]["generation"]

            def upgraded(generation: int = generation) -> bool:
                status = json.loads(kubectl("get", "sbx", name, "-o", "json"))["status"]
                found = {item["type"]: item["status"] for item in status["conditions"]}
                done = found.get("InplaceUpdate") == "True" and found.get("Ready") == "True"
                return bool(done and status["observedGeneration"] >= generation)

            eventually(upgraded)
            assert sbx.commands.run("cat /etc/marker").stdout == marker
            assert sbx.commands.run("ls /mnt/agent-runtime/kept /tmp").stdout.split()[0] == "/mnt/agent-runtime/kept"
            assert "lost" not in sbx.commands.run("ls /tmp").stdout
        after = json.loads(kubectl("get", "pod", name, "-o", "json"))
        assert after["metadata"]["uid"] == pod["metadata"]["uid"]
        assert after["status"]["podIP"] == pod["status"]["podIP"]


def test_cpu_and_memory_up_and_down(kubectl: Kubectl, images: None) -> None:
    """A claim with other resources, then more and less of both: the limits inside follow, without a restart."""
    wanted = {"cpu-limit": "500m", "memory-limit": "256Mi"}
    metadata = {f"e2b.agents.kruise.io/{key}": value for key, value in wanted.items()}
    with Sandbox.create(template="code-interpreter", timeout=300, metadata=metadata) as sbx:
        name = sandbox_object(kubectl, sbx.sandbox_id)["metadata"]["name"]
        sbx.commands.run("echo here > /tmp/note")
        for cpu, memory in (("2", "768Mi"), ("1", "128Mi")):
            amounts = {"cpu": cpu, "memory": memory}
            patch = [
                {
                    "op": "replace",
                    "path": "/spec/template/spec/containers/0/resources",
                    "value": {"limits": amounts, "requests": amounts},
                }
            ]
            kubectl("patch", "sbx", name, "--type=json", "-p", json.dumps(patch))

            def in_force(amounts: dict[str, str] = amounts) -> bool:
                pod = json.loads(kubectl("get", "pod", name, "-o", "json"))
                return bool(pod["status"]["containerStatuses"][0].get("resources", {}).get("limits") == amounts)

            eventually(in_force)
            eventually(lambda: condition(kubectl, name, "InplaceUpdate")[:2] == ("True", "Succeeded"))
        assert sbx.commands.run("cat /tmp/note").stdout == "here\n"
        limit = sbx.commands.run(
            "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true"
        )
        assert limit.stdout.split()[0] == str(128 * 1024 * 1024)


def test_a_claim_by_kubectl_with_an_image(kubectl: Kubectl, images: None, tmp_path: Path) -> None:
    """SandboxClaim inplaceUpdate completes once the new image runs; with a missing image it completes with words."""
    for name, image, reason in (
        ("good", "colours/blue:1", "AllClaimed"),
        ("bad", "colours/none:1", "InplaceUpdateFailed"),
    ):
        claim = {
            "apiVersion": "agents.kruise.io/v1alpha1",
            "kind": "SandboxClaim",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"templateName": "code-interpreter", "inplaceUpdate": {"image": image}},
        }
        kubectl("apply", "-f", "-", stdin=json.dumps(claim))
        kubectl("wait", "--for=condition=Completed", f"sbc/{name}", "--timeout=60s")
        status = json.loads(kubectl("get", "sbc", name, "-o", "json"))["status"]
        assert [item["reason"] for item in status["conditions"] if item["type"] == "Completed"] == [reason]
        if reason == "AllClaimed":
            (taken,) = status["claimedSandboxes"]
            assert kubectl("exec", taken["name"], "--", "cat", "/etc/marker") == "blue"
            kubectl("delete", "sbx", taken["name"])
        else:
            assert "colours/none:1" in status["message"] and status.get("claimedReplicas", 0) == 0
        kubectl("delete", "sbc", name)
