"""A pod's status as a function of its containers' states."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.embedded.node.podspec import PodSpec
from appliance.embedded.node.podstatus import ContainerState, Ended, PodState

SPEC = PodSpec.parse(
    {
        "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {
            "containers": [{"name": "c"}],
            "initContainers": [{"name": "side", "restartPolicy": "Always"}, {"name": "first"}],
        },
    }
)


def state(main: ContainerState, side: ContainerState | None = None, first: ContainerState | None = None) -> PodState:
    """A pod of a main container, a sidecar and an init container."""
    done = ContainerState(ended=Ended(0, "Completed", 1, 2))
    up = ContainerState(running_since=1, started=True, ready=True)
    return PodState({"c": main, "side": side or up, "first": first or done})


@pytest.mark.parametrize(
    ("pod", "phase"),
    [
        (state(ContainerState()), "Pending"),
        (state(ContainerState(running_since=1)), "Running"),
        (state(ContainerState(last=Ended(1, "Error", 1, 2))), "Running"),
        (state(ContainerState(ended=Ended(0, "Completed", 1, 2))), "Succeeded"),
        (state(ContainerState(ended=Ended(3, "Error", 1, 2))), "Failed"),
        (state(ContainerState(), first=ContainerState(ended=Ended(1, "Error", 1, 2))), "Failed"),
    ],
)
def test_phase(pod: PodState, phase: str) -> None:
    """The five situations of a pod, and a failed init container."""
    assert pod.phase(SPEC) == phase


def conditions(status: dict[str, Any]) -> dict[str, str]:
    """type -> status."""
    return {c["type"]: c["status"] for c in status["conditions"]}


def test_ready_needs_every_container() -> None:
    """Ready is True only when all main containers are; Initialized when sidecars are up and init containers done."""
    pod = state(ContainerState(running_since=1))
    assert conditions(pod.status(SPEC, 5.0))["Ready"] == "False"
    pod.containers["c"].ready = True
    assert conditions(pod.status(SPEC, 6.0))["Ready"] == "True"
    pod.containers["side"].started = False
    assert conditions(pod.status(SPEC, 7.0))["Initialized"] == "False"


def test_transition_times_move_only_with_the_status() -> None:
    """A condition keeps its time while its status stays, so that equal statuses compare equal and are not written."""
    pod = state(ContainerState(running_since=1, ready=True))
    assert pod.status(SPEC, 5.0) == pod.status(SPEC, 99.0)


def test_oom_is_shown_as_the_last_state() -> None:
    """A restarted container tells how it ended before."""
    body = ContainerState(last=Ended(137, "OOMKilled", 1, 2), restarts=1).status(SPEC.containers[0])
    assert body["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert body["restartCount"] == 1
