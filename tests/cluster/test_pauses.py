"""Pause and resume on a real cluster: what is kept, what is given back, and that timers and retention drive them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from e2b_code_interpreter import Sandbox
from realnode.configs import PAUSE_IMAGE
from realnode.roles import Cloud, seed

from appliance.api import labels

pytestmark = [
    pytest.mark.realnode,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("outcomes"),  # what waits for timers, here and in other modules, begins with this one
]
Json = dict[str, Any]
Case = Callable[[Cloud, str], None]


def of(cloud: Cloud, sandbox: Sandbox) -> Json:
    """The Sandbox object of an SDK's sandbox."""
    selector = f"{labels.SANDBOX_ID}={sandbox.sandbox_id}"
    found: Json = cloud.get("sbx", "-n", "default", "-l", selector)["items"][0]
    return found


def pod(cloud: Cloud, name: str) -> Json | None:
    """The pod of a sandbox in the default namespace."""
    found: Json | None = cloud.find("pod", name, "-n", "default")
    return found


def condition(found: Json, kind: str) -> Json:
    """A condition of a Sandbox."""
    return next((item for item in found.get("status", {}).get("conditions", []) if item["type"] == kind), {})


@pytest.fixture
def stopping(cloud: Cloud) -> Iterator[str]:
    """A pool of one, with a volume of its own on this node, whose sandboxes are stopped when paused."""
    name = "stopping"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "64Mi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": name,
            "hostPath": {"path": "/run/volumes/stopping", "type": "DirectoryOrCreate"},
        },
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "storageClassName": name,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "64Mi"}},
        },
    }
    made = seed(1)
    made["metadata"]["name"] = name
    made["spec"] |= {"volumeClaimTemplates": [claim], "pauseStrategy": {"type": "Stop"}}
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["volumeMounts"].append({"name": "data", "mountPath": "/data"})
    cloud.apply(volume, made)
    cloud.await_pool(name, 1)
    yield name
    cloud.kubectl("delete", "sbs", name, "-n", "default", check=False)
    cloud.kubectl("delete", "pv", name, "--wait=false", check=False)


def test_stop_keeps_volumes_and_gives_everything_else_back(sdk: Cloud, stopping: str) -> None:
    """Paused: no pod, the volume stays, the condition says what is kept. Resumed: the file is there, memory is new."""
    sandbox = Sandbox.create(stopping, timeout=600)
    try:
        sandbox.commands.run("echo kept > /data/file", user="root")
        sandbox.run_code("a = 1")
        name = of(sdk, sandbox)["metadata"]["name"]
        before = pod(sdk, name)
        assert before is not None
        sandbox.beta_pause()
        found = of(sdk, sandbox)
        assert found["status"]["phase"] == "Paused"
        done = condition(found, "SandboxPaused")
        assert (done["status"], done["reason"], done["message"]) == ("True", "StopPauseSucceed", "volumes are kept")
        assert pod(sdk, name) is None
        assert sdk.get("pvc", f"data-{name}", "-n", "default")["status"]["phase"] == "Bound"
        again = Sandbox.connect(sandbox.sandbox_id, timeout=600)
        after = pod(sdk, name)
        assert after is not None and after["metadata"]["uid"] != before["metadata"]["uid"]
        assert again.commands.run("cat /data/file", user="root").stdout == "kept\n"
        error = again.run_code("a").error
        assert error is not None and error.name == "NameError"
    finally:
        sandbox.kill()
    sdk.until(lambda: sdk.find("pvc", f"data-{name}", "-n", "default") is None, "the volume's claim goes with it")


def test_freeze_keeps_memory_and_the_pod_and_gives_the_cpu_request_back(sdk: Cloud) -> None:
    """The seed's template, paused as E2B means it: no process runs but the runtime, the pod stays, its cpu request
    shrinks in place and comes back, and variables are as they were.
    """
    with Sandbox.create(template="code-interpreter", timeout=600) as sandbox:
        sandbox.run_code("a = 41")
        ticking = sandbox.commands.run("while :; do date +%s%N > /tmp/tick; sleep 0.05; done", background=True)
        name = of(sdk, sandbox)["metadata"]["name"]
        before = pod(sdk, name)
        assert before is not None
        sandbox.beta_pause()
        found = of(sdk, sandbox)
        assert condition(found, "SandboxPaused")["reason"] == "FreezePauseSucceed"
        sdk.until(lambda: request(pod(sdk, name)) == "1m", "the request is given back")
        first, second = (tick(sdk, name) for _ in range(2))
        assert first == second
        again = Sandbox.connect(sandbox.sandbox_id, timeout=600)
        assert again.run_code("a + 1").text == "42"
        after = pod(sdk, name)
        assert after is not None
        assert after["metadata"]["uid"] == before["metadata"]["uid"]
        assert after["status"]["containerStatuses"][0]["restartCount"] == 0
        assert request(after) == "1"
        sdk.until(lambda: tick(sdk, name) != second, "the loop goes on")
        ticking.kill()


def tick(cloud: Cloud, name: str) -> str:
    """What a loop in the sandbox wrote last, read past the runtime."""
    return cloud.kubectl("exec", "-n", "default", name, "-c", "sandbox", "--", "cat", "/tmp/tick")


def request(found: Json | None) -> str:
    """The cpu request of the main container."""
    assert found is not None
    requests: Json = found["spec"]["containers"][0]["resources"]["requests"]
    return str(requests["cpu"])


def auto_pause_and_its_retention(cloud: Cloud, namespace: str) -> None:
    """``pauseTime`` pauses; with retention the paused sandbox is kept that long after its pause, then deleted."""
    now = datetime.now(UTC)
    at = (now + timedelta(seconds=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
    main = {"name": "main", "image": PAUSE_IMAGE}
    sandbox: Json = {
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "Sandbox",
        "metadata": {"name": "s", "namespace": namespace, "annotations": {labels.RESERVE_PAUSED: "15s"}},
        "spec": {
            "pauseTime": at,
            "shutdownTime": at,
            "pauseStrategy": {"type": "Stop"},
            "template": {"spec": {"terminationGracePeriodSeconds": 0, "containers": [main]}},
        },
    }
    cloud.apply(sandbox)

    def paused() -> Json | None:
        found: Json = cloud.get("sbx", "s", "-n", namespace)
        return found if condition(found, "SandboxPaused").get("status") == "True" else None

    found = cloud.until(paused, "paused by its timer")
    assert found["spec"]["paused"] is True
    assert found["spec"]["shutdownTime"] > at
    cloud.until(lambda: cloud.find("pod", "s", "-n", namespace) is None, "its pod is gone")
    cloud.until(lambda: cloud.find("sbx", "s", "-n", namespace) is None, "deleted when its retention ends")
    assert datetime.now(UTC) - now > timedelta(seconds=29)


CASES = (auto_pause_and_its_retention,)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_timers_pause_and_delete(outcomes: dict[Case, Future[None]], case: Case) -> None:
    """As the case's own sentence says."""
    outcomes[case].result()
