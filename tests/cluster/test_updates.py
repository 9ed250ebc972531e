"""In-place upgrades, roll-outs and the protection of pods on a real kubelet, containerd and API server."""

from __future__ import annotations

import json
from typing import Any

import pytest
from e2b import Sandbox
from e2b.exceptions import SandboxException
from realnode import images
from realnode.configs import PAUSE_IMAGE
from realnode.roles import Cloud

pytestmark = [pytest.mark.realnode, pytest.mark.timeout(400)]
Json = dict[str, Any]
RED, BLUE = "docker.io/colours/red:1", "docker.io/colours/blue:1"
IMAGE = "e2b.agents.kruise.io/image"


@pytest.fixture
def colours(cloud: Cloud) -> None:
    """Two images that the node can pull, or has."""
    if cloud.cluster.shelve is None:
        pytest.skip("brings images of its own to the nodes, which --cluster=existing leaves to others")
    for name, seconds in ((RED, "86400"), (BLUE, "86401")):  # two images, not one of two names
        cloud.cluster.shelve(images.busybox(name, ("/bin/sleep", seconds)))


def condition(found: Json, kind: str) -> tuple[str, str, str]:
    """Status, reason and message of one condition; empty strings when there is none."""
    for item in found.get("status", {}).get("conditions", []):
        if item["type"] == kind:
            return item["status"], item["reason"], item.get("message", "")
    return "", "", ""


def running(cloud: Cloud, name: str, namespace: str, **spec: Any) -> Json:
    """A Sandbox of busybox with equal requests and limits, once it is ready; its pod."""
    amounts = {"cpu": "50m", "memory": "64Mi"}
    main = {"name": "sandbox", "image": PAUSE_IMAGE, "resources": {"requests": amounts, "limits": amounts}}
    template = {"spec": {"terminationGracePeriodSeconds": 0, "containers": [main]}}
    meta = {"name": name, "namespace": namespace, "labels": {"team": "red"}}
    body = {"apiVersion": "agents.kruise.io/v1alpha1", "kind": "Sandbox", "metadata": meta}
    cloud.apply({**body, "spec": {"template": template, **spec}})
    cloud.kubectl("wait", "--for=condition=Ready", f"sbx/{name}", "-n", namespace, "--timeout=120s")
    pod: Json = cloud.get("pod", name, "-n", namespace)
    return pod


def edit(cloud: Cloud, name: str, namespace: str, field: str, value: Any) -> None:
    """Change a field of the container in the Sandbox's template, and wait until the pod has it."""
    patch = [{"op": "replace", "path": f"/spec/template/spec/containers/0/{field}", "value": value}]
    cloud.kubectl("patch", "sbx", name, "-n", namespace, "--type=json", "-p", json.dumps(patch))
    generation = cloud.get("sbx", name, "-n", namespace)["metadata"]["generation"]

    def done() -> bool:
        found = cloud.get("sbx", name, "-n", namespace)
        told = condition(found, "InplaceUpdate")[0] == condition(found, "Ready")[0] == "True"
        return told and bool(found["status"]["observedGeneration"] >= generation)

    cloud.until(done, f"{name} has {field} {value}", 150)


def test_create_with_another_image(sdk: Cloud, colours: None) -> None:
    """The program of seed §2.2.1 with another image: the pool's pod stays and its container runs that image."""
    sdk.await_pool("code-interpreter", 1)  # one that is made for its claim has the image from the beginning
    sbx = Sandbox.create(template="code-interpreter", timeout=300, metadata={IMAGE: RED}, request_timeout=120)
    try:
        chosen = f"agents.kruise.io/sandbox-id={sbx.sandbox_id}"
        (found,) = sdk.get("sbx", "-A", "-l", chosen)["items"]
        assert condition(found, "InplaceUpdate")[:2] == ("True", "Succeeded")
        name, namespace = found["metadata"]["name"], found["metadata"]["namespace"]
        pod = sdk.get("pod", name, "-n", namespace)
        assert found["status"]["podInfo"]["podUID"] == pod["metadata"]["uid"]
        (status,) = [item for item in pod["status"]["containerStatuses"] if item["name"] == "sandbox"]
        assert "colours/red" in status["image"] and status["restartCount"] == 1
        assert sbx.is_running()
    finally:
        sbx.kill()


def test_create_with_an_image_that_cannot_be_pulled(sdk: Cloud) -> None:
    """The answer is the pull error with the image's name, and no sandbox is left."""
    with pytest.raises(SandboxException) as failed:
        metadata = {IMAGE: "docker.io/colours/none:1"}
        Sandbox.create(template="code-interpreter", timeout=300, metadata=metadata, request_timeout=120)
    assert "400" in str(failed.value) and "colours/none:1" in str(failed.value)
    sdk.until(lambda: "colours/none" not in sdk.kubectl("get", "sbx,pods", "-A", "-o", "json"), "nothing is left", 60)


def test_image_and_resources_again_and_again(cloud: Cloud, namespace: str, colours: None) -> None:
    """Cpu and memory up and down and two images on one pod; resources alone restart nothing.

    Less memory is asked for before the images: this kubelet then counts the stopped container of the same name too, for
    which containerd 1.6 has no figure of what is in use, and refuses.
    """
    pod = running(cloud, "s", namespace)

    def resize(*sizes: tuple[str, str]) -> None:
        restarts = cloud.get("pod", "s", "-n", namespace)["status"]["containerStatuses"][0]["restartCount"]
        for cpu, memory in sizes:
            amounts = {"cpu": cpu, "memory": memory}
            edit(cloud, "s", namespace, "resources", {"requests": amounts, "limits": amounts})
            (status,) = cloud.get("pod", "s", "-n", namespace)["status"]["containerStatuses"]
            assert status["resources"]["limits"] == amounts and status["restartCount"] == restarts

    resize(("200m", "128Mi"), ("100m", "96Mi"), ("150m", "112Mi"), ("100m", "80Mi"))
    for image in (RED, BLUE):
        edit(cloud, "s", namespace, "image", image)
    resize(("200m", "128Mi"), ("100m", "128Mi"))
    after = cloud.get("pod", "s", "-n", namespace)
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]
    assert "colours/blue" in after["status"]["containerStatuses"][0]["image"]


def test_a_roll_out_recreates_pods(cloud: Cloud, namespace: str, colours: None) -> None:
    """SandboxUpdateOps gives two sandboxes new pods of the new image, one after the other."""
    before = {running(cloud, name, namespace)["metadata"]["uid"] for name in ("a", "b")}
    operation = {
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxUpdateOps",
        "metadata": {"name": "u", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"team": "red"}},
            "patch": {"spec": {"containers": [{"name": "sandbox", "image": BLUE}]}},
        },
    }
    cloud.apply(operation)
    cloud.until(
        lambda: cloud.get("suo", "u", "-n", namespace).get("status", {}).get("phase") == "Completed", "rolled out", 200
    )
    pods = cloud.get("pods", "-n", namespace)["items"]
    assert not before & {pod["metadata"]["uid"] for pod in pods}
    assert all("colours/blue" in pod["status"]["containerStatuses"][0]["image"] for pod in pods)
    cloud.kubectl("delete", "suo", "u", "-n", namespace, "--timeout=60s")


def test_pods_of_sandboxes_are_protected(cloud: Cloud, namespace: str) -> None:
    """An administrator's delete and eviction are refused by the webhook; deleting the Sandbox ends the pod."""
    running(cloud, "s", namespace)

    def refused() -> bool:
        return "corresponding sandbox exists" in denied(
            cloud, "delete", "pod", "s", "-n", namespace, "--dry-run=server"
        )

    cloud.until(refused, "the webhook is asked", 90)
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "s", "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/s/eviction"
    assert "cannot evict pod" in denied(cloud, "create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    cloud.kubectl("delete", "sbx", "s", "-n", namespace, "--timeout=60s")
    cloud.until(lambda: cloud.find("pod", "s", "-n", namespace) is None, "the pod is gone", 60)


def denied(cloud: Cloud, *words: str, stdin: str | None = None) -> str:
    """What kubectl says when it fails; empty when it does not."""
    try:
        cloud.kubectl(*words, stdin=stdin)
    except RuntimeError as error:
        return str(error)
    return ""
