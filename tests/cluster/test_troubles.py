"""A sandbox in trouble says why, in words a user understands: in its status, in a condition, and in an event.

Each case is a real one: the kubelet, the scheduler, the quota and the eviction machinery of the cluster make it. The
sandboxes here run busybox without a runtime, so that they start at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from realnode.cluster import RealNode
from realnode.configs import PAUSE_IMAGE
from realnode.roles import Cloud

pytestmark = [pytest.mark.realnode, pytest.mark.timeout(400)]
Json = dict[str, Any]
Case = Callable[[Cloud, str], None]


def sandbox(
    name: str, namespace: str, *command: str, spec: Json | None = None, pod: Json | None = None, **container: Any
) -> Json:
    """A Sandbox of busybox that runs a shell script, or sleeps."""
    main: Json = {"name": "main", "image": PAUSE_IMAGE, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    if command:
        main["command"] = ["/bin/sh", "-c", *command]
    template = {"spec": {"terminationGracePeriodSeconds": 0, "containers": [{**main, **container}], **(pod or {})}}
    return {
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"template": template, **(spec or {})},
    }


def ready(found: Json) -> Json:
    """Its Ready condition."""
    listed = found.get("status", {}).get("conditions", [])
    return next((item for item in listed if item["type"] == "Ready"), {"reason": "", "message": ""})


def phase(found: Json) -> str:
    """Its phase; empty before the controller saw it."""
    return str(found.get("status", {}).get("phase", ""))


def await_state(cloud: Cloud, namespace: str, name: str, wanted: Callable[[Json], object], what: str) -> Json:
    """The sandbox once ``wanted`` holds of it."""

    def look() -> Json | None:
        found: Json = cloud.get("sbx", name, "-n", namespace)
        return found if wanted(found) else None

    reached: Json = cloud.until(look, f"sandbox {name}: {what}", 150)
    return reached


def await_event(cloud: Cloud, namespace: str, name: str, reason: str, word: str) -> None:
    """An event about the sandbox, with that reason and that word."""
    cloud.until(
        lambda: [1 for told, text in cloud.events(namespace, name) if told == reason and word in text],
        f"event {reason} of {name} with {word!r}; there are {cloud.events(namespace, name)}",
        30,
    )


def an_image_that_does_not_exist(cloud: Cloud, namespace: str) -> None:
    """Pending, with the registry's answer; nothing is said to run."""
    cloud.apply(sandbox("s", namespace, image="registry.example/no/such-image:1"))
    found = await_state(
        cloud, namespace, "s", lambda seen: ready(seen)["reason"] == "StartContainerFailed", "pull failed"
    )
    assert found["status"]["phase"] == "Pending"
    assert "no/such-image:1" in ready(found)["message"]
    assert found["status"]["message"] == ready(found)["message"]
    await_event(cloud, namespace, "s", "StartContainerFailed", "no/such-image:1")


def no_node_has_room(cloud: Cloud, namespace: str) -> None:
    """Pending, with what is short."""
    cloud.apply(sandbox("s", namespace, resources={"requests": {"cpu": "900"}}))
    found = await_state(cloud, namespace, "s", lambda seen: ready(seen)["reason"] == "Unschedulable", "not scheduled")
    assert "Insufficient cpu" in ready(found)["message"]
    await_event(cloud, namespace, "s", "Unschedulable", "Insufficient cpu")


def a_quota_refuses_the_pod_until_there_is_room(cloud: Cloud, namespace: str) -> None:
    """The quota is named; once it is raised the sandbox runs, without anybody touching it."""
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "tight", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    }
    cloud.apply(quota)
    counted = lambda: cloud.get("quota", "tight", "-n", namespace).get("status", {}).get("hard")  # noqa: E731
    cloud.until(counted, "the quota is in force")
    cloud.apply(sandbox("s", namespace))
    found = await_state(cloud, namespace, "s", lambda seen: ready(seen)["reason"] == "PodCreateFailed", "refused")
    assert "exceeded quota: tight" in ready(found)["message"]
    await_event(cloud, namespace, "s", "PodCreateFailed", "exceeded quota: tight")
    cloud.apply({**quota, "spec": {"hard": {"pods": "1"}}})
    await_state(cloud, namespace, "s", lambda seen: phase(seen) == "Running", "runs")


def a_crash_is_told_with_its_exit_code(cloud: Cloud, namespace: str) -> None:
    """Restarted for ever: the loop and the last exit code. Never restarted: failed, with the exit code."""
    cloud.apply(
        sandbox("again", namespace, "exit 7"), sandbox("once", namespace, "exit 7", pod={"restartPolicy": "Never"})
    )
    told = lambda seen: "exit code 7" in ready(seen)["message"]  # noqa: E731
    found = await_state(cloud, namespace, "again", told, "tells the exit code")
    assert ready(found)["reason"] in ("StartContainerFailed", "ContainerEnded")
    await_event(cloud, namespace, "again", ready(found)["reason"], "exit code 7")
    found = await_state(cloud, namespace, "once", lambda seen: phase(seen) == "Failed", "failed")
    assert "container main ended with exit code 7" in found["status"]["message"]
    await_event(cloud, namespace, "once", "PodFailed", "exit code 7")


def out_of_memory_is_called_by_its_name(cloud: Cloud, namespace: str) -> None:
    """The kernel killed it, and the status says why."""
    limit = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "16Mi"}}
    hungry = sandbox("s", namespace, "tail /dev/zero", resources=limit, pod={"restartPolicy": "Never"})
    cloud.apply(hungry)
    found = await_state(cloud, namespace, "s", lambda seen: phase(seen) == "Failed", "killed")
    assert "out of memory" in found["status"]["message"]
    await_event(cloud, namespace, "s", "PodFailed", "out of memory")


def a_drained_node_evicts(cloud: Cloud, namespace: str) -> None:
    """A pod that Kubernetes' own controllers evict: the sandbox fails and says evicted, not that a pod vanished.

    Administrators are refused (test_updates.py); these are exempt, as when a node goes away.
    """
    cloud.apply(sandbox("s", namespace))
    await_state(cloud, namespace, "s", lambda seen: ready(seen).get("status") == "True", "runs")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "s", "namespace": namespace}}
    groups = ("system:serviceaccounts:kube-system", "system:masters")
    flags = ("--as=system:serviceaccount:kube-system:evictor", *(f"--as-group={group}" for group in groups))
    cloud.create_raw(f"/api/v1/namespaces/{namespace}/pods/s/eviction", eviction, *flags)
    found = await_state(cloud, namespace, "s", lambda seen: phase(seen) == "Failed", "failed")
    assert ready(found)["reason"] == "Evicted"
    assert "evicted" in found["status"]["message"]
    await_event(cloud, namespace, "s", "Evicted", "evicted")


def a_volume_that_overflows_evicts(cloud: Cloud, namespace: str) -> None:
    """The kubelet's own eviction: its words, with the volume's name, are the sandbox's."""
    volume = {"volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}]}
    mount = [{"name": "scratch", "mountPath": "/scratch"}]
    script = "dd if=/dev/zero of=/scratch/x bs=1M count=8; sleep 1000"
    cloud.apply(sandbox("s", namespace, script, pod=volume, volumeMounts=mount))
    found = await_state(cloud, namespace, "s", lambda seen: phase(seen) == "Failed", "evicted")
    assert ready(found)["reason"] == "Evicted"
    assert "scratch" in found["status"]["message"]
    await_event(cloud, namespace, "s", "Evicted", "scratch")


def timers_strike_failed_sandboxes_too(cloud: Cloud, namespace: str) -> None:
    """A failed sandbox is kept to be looked at, and deleted at its ``shutdownTime`` like any other."""
    soon = (datetime.now(UTC) + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    once = sandbox("s", namespace, "exit 3", pod={"restartPolicy": "Never"}, spec={"shutdownTime": soon})
    cloud.apply(once)
    failed = lambda: cloud.events(namespace, "s") and "PodFailed" in dict(cloud.events(namespace, "s"))  # noqa: E731
    cloud.until(failed, "it failed before its time")
    cloud.until(lambda: cloud.find("sbx", "s", "-n", namespace) is None, "deleted at its time")
    assert datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") >= soon


CASES = (
    an_image_that_does_not_exist,
    no_node_has_room,
    a_quota_refuses_the_pod_until_there_is_room,
    a_crash_is_told_with_its_exit_code,
    out_of_memory_is_called_by_its_name,
    a_drained_node_evicts,
    a_volume_that_overflows_evicts,
    timers_strike_failed_sandboxes_too,
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_trouble_is_told(outcomes: dict[Case, Future[None]], case: Case) -> None:
    """As the case's own sentence says: status, condition and event name the trouble."""
    outcomes[case].result()


@pytest.mark.usefixtures("undisturbed")
def test_a_node_that_does_not_answer(cloud: Cloud, node: RealNode, namespace: str) -> None:
    """The kubelet dies: sandboxes say that their node is silent, those that must not wait fail with that reason, and
    the others are ready again when the kubelet is back.
    """
    impatient = {
        "tolerations": [
            {"key": f"node.kubernetes.io/{taint}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
            for taint in ("unreachable", "not-ready")
        ]
    }
    cloud.apply(sandbox("patient", namespace), sandbox("impatient", namespace, pod=impatient))
    for name in ("patient", "impatient"):
        await_state(cloud, namespace, name, lambda seen: ready(seen).get("status") == "True", "runs")
    node.stop("kubelet", 9)
    try:
        node.restart("kube-controller-manager", "--node-monitor-grace-period=4s")  # Kubernetes waits fifty
        found = await_state(
            cloud, namespace, "patient", lambda seen: ready(seen)["reason"] == "NodeNotReady", "its node is silent"
        )
        assert "node node1 does not answer" in ready(found)["message"]
        assert found["status"]["phase"] == "Running"
        await_event(cloud, namespace, "patient", "NodeNotReady", "node1 does not answer")
        found = await_state(cloud, namespace, "impatient", lambda seen: phase(seen) == "Failed", "failed")
        assert "its node was lost" in found["status"]["message"]
        await_event(cloud, namespace, "impatient", "Evicted", "its node was lost")
    finally:
        node.restart("kube-controller-manager")
        node.start("kubelet")
    await_state(cloud, namespace, "patient", lambda seen: ready(seen).get("status") == "True", "ready again")
    cloud.until(node.ready, "the node is ready again")
    cloud.await_service()  # its managers were out of the Service, like every pod of a silent node
