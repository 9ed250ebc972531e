"""What the controller makes of nodes and pods in trouble, and the cpu request of frozen pods: pure parts."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from appliance.api import labels
from appliance.api.conditions import Phase, Reason
from appliance.api.corestructs import Node, Pod
from appliance.api.structs import Condition, SandboxStatus
from appliance.controller import node_reading, pod_reading, shrinking
from appliance.controller.announcing import News, news


def pod(**parts: Any) -> Pod:
    """A pod from JSON."""
    return msgspec.convert({"metadata": {"name": "p", **parts.pop("meta", {})}, **parts}, Pod)


def node(status: str, message: str = "") -> Node:
    """A node whose Ready condition has that status."""
    ready = {"type": "Ready", "status": status, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return msgspec.convert({"metadata": {"name": "n"}, "status": {"conditions": [ready]}}, Node)


def test_a_silent_node_is_told_from_one_that_is_not_ready() -> None:
    """Unknown is silence, False has the node's own words, True and nothing said yet are no trouble."""
    assert node_reading.silence(node("True")) == ""
    assert node_reading.silence(msgspec.convert({"metadata": {"name": "n"}}, Node)) == ""
    assert "node n does not answer since 2026-01-01T00:00:00Z" in node_reading.silence(node("Unknown"))
    assert "not ready" in node_reading.silence(node("False", "PLEG is not healthy"))
    assert "PLEG is not healthy" in node_reading.silence(node("False", "PLEG is not healthy"))


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("DeletionByTaintManager", "its node was lost"),
        ("EvictionByEvictionAPI", "evicted by request"),
        ("PreemptionByScheduler", "higher priority"),
        ("SomethingNew", "disrupted (SomethingNew)"),
    ],
)
def test_disruptions_are_put_in_words(reason: str, words: str) -> None:
    """Every known reason has words, an unknown one is named, and the cluster's message follows."""
    target = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": "because"}
    said = pod_reading.disruption(pod(status={"conditions": [target]}))
    assert words in said and said.endswith(": because")
    assert pod_reading.disruption(pod()) == ""


def test_what_is_said_of_the_whole_pod_comes_before_its_containers() -> None:
    """An evicted pod's containers were killed, which is not why it ended."""
    killed = {"name": "c", "state": {"terminated": {"exitCode": 137, "reason": "Error"}}}
    status = {"phase": "Failed", "reason": "Evicted", "message": "volume full", "containerStatuses": [killed]}
    assert pod_reading.ending(pod(status=status)) == "Evicted: volume full"
    assert "exit code 137" in pod_reading.ending(pod(status={"phase": "Failed", "containerStatuses": [killed]}))


def status(phase: str, ready: str, reason: str, message: str = "m") -> SandboxStatus:
    """A status with a Ready condition."""
    condition = Condition(type="Ready", status=ready, reason=reason, message=message)
    return SandboxStatus(phase=phase, message=message, conditions=[condition])


def test_troubles_are_told_once_and_ends_always() -> None:
    """A new trouble or wording is news, its repetition and a youth are not; an end is, as a warning when it failed."""
    young, well = status(Phase.PENDING, "False", Reason.PENDING), status(Phase.RUNNING, "True", Reason.POD_READY)
    stuck = status(Phase.PENDING, "False", Reason.UNSCHEDULABLE, "no room")
    assert news(SandboxStatus(), young) is None
    assert news(young, well) is None
    assert news(young, stuck) == News(Reason.UNSCHEDULABLE, "no room")
    assert news(stuck, stuck) is None
    assert news(well, status(Phase.FAILED, "False", Reason.EVICTED, "full")) == News(Reason.EVICTED, "full")
    assert news(well, status(Phase.SUCCEEDED, "False", "PodSucceeded", "0")) == News("PodSucceeded", "0", warning=False)


def test_a_restart_is_news_beside_whatever_else_is_said() -> None:
    """Once for each wording, although the sandbox is ready again."""
    well = status(Phase.RUNNING, "True", Reason.POD_READY)
    again = [
        msgspec.structs.replace(
            well, conditions=[*well.conditions, Condition(type="Restarted", status="True", message=m)]
        )
        for m in ("restart 1", "restart 2")
    ]
    assert news(well, again[0]) == News("Restarted", "restart 1")
    assert news(again[0], again[0]) is None
    assert news(again[0], again[1]) == News("Restarted", "restart 2")


def frozen(request: str, note: dict[str, str] | None, qos: str = "Burstable") -> Pod:
    """A pod whose main container asks for that much, with the annotation if given."""
    container = {"name": "c", "resources": {"requests": {"cpu": request, "memory": "1Gi"}, "limits": {"cpu": "1"}}}
    remembered = {labels.CPU_REQUESTS: json.dumps(note)} if note is not None else {}
    return pod(meta={"annotations": remembered}, spec={"containers": [container]}, status={"qosClass": qos})


def test_a_frozen_pods_request_is_given_back_once() -> None:
    """Due before and after the note is written, no longer once resized, never for what cannot or was refused."""
    assert shrinking.due(frozen("1", None))
    assert shrinking.due(frozen("1", {"c": "1"}))
    assert not shrinking.due(frozen("1m", {"c": "1"}))
    assert not shrinking.due(frozen("1", {}))
    assert not shrinking.due(frozen("1", None, qos="Guaranteed"))
    assert not shrinking.due(frozen("1m", None))


def test_resizing_changes_the_cpu_request_only() -> None:
    """Limits and memory stay; what comes back is what was noted."""
    patch = shrinking.resize_patch(frozen("1", None), {"c": "1m"})
    resources = patch["spec"]["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "1m", "memory": "1Gi"}, "limits": {"cpu": "1"}}
    noted = frozen("1m", shrinking.reserved(frozen("1", None)))
    assert shrinking.originals(noted) == {"c": "1"}
