"""Hooks of SandboxUpdateOps on a real node: run inside the sandbox by its runtime, around the exchange of its pod."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import pytest
from realnode.roles import Cloud, seed

pytestmark = [pytest.mark.realnode, pytest.mark.timeout(600)]
Json = dict[str, Any]
LOG = "/kept/log"


def _pool(namespace: str) -> Json:
    """One sandbox of the seed's template, with a directory of the node that outlives its pod."""
    made = seed(1)
    made["metadata"] |= {"name": "hooked", "namespace": namespace}
    pod = made["spec"]["template"]["spec"]
    pod["volumes"].append(
        {"name": "kept", "hostPath": {"path": f"/run/volumes/{namespace}", "type": "DirectoryOrCreate"}}
    )
    main = pod["containers"][0]
    main["resources"] = {"requests": {"cpu": "10m", "memory": "64Mi"}}
    main["volumeMounts"].append({"name": "kept", "mountPath": "/kept"})
    return made


def _claimed(cloud: Cloud, namespace: str) -> str:
    """The name of the pool's only sandbox, once it has an owner and the pool has none."""
    cloud.apply(_pool(namespace))
    cloud.await_pool("hooked", 1, namespace)
    cloud.apply({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxClaim",
        "metadata": {"name": "c", "namespace": namespace},
        "spec": {"templateName": "hooked", "labels": {"team": "hooks"}},
    })  # fmt: skip
    done = lambda: cloud.get("sbc", "c", "-n", namespace).get("status", {}).get("phase") == "Completed"  # noqa: E731
    cloud.until(done, "claimed")
    cloud.kubectl("scale", "sbs", "hooked", "-n", namespace, "--replicas=0")
    (item,) = cloud.get("sbx", "-n", namespace, "-l", "team=hooks")["items"]
    return str(item["metadata"]["name"])


def _roll_out(cloud: Cloud, namespace: str, name: str, mark: str, **hooks: Json) -> Json:
    """The operation, when it is over: another value of a variable, between hooks."""
    environment = [{"name": "MARK", "value": mark}]
    cloud.apply({
        "apiVersion": "agents.kruise.io/v1alpha1",
        "kind": "SandboxUpdateOps",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": {"team": "hooks"}},
            "patch": {"spec": {"containers": [{"name": "sandbox", "env": environment}]}},
            "lifecycle": hooks,
        },
    })  # fmt: skip

    def over() -> Json | None:
        found: Json = cloud.get("suo", name, "-n", namespace)
        return found if found.get("status", {}).get("phase") in ("Completed", "Failed") else None

    ended: Json = cloud.until(over, f"roll-out {name} is over", 200)
    cloud.kubectl("delete", "suo", name, "-n", namespace, "--timeout=60s")
    return ended


def _place(cloud: Cloud, namespace: str, name: str) -> str:
    """What tells the sandbox's present container from the one before it."""
    return cloud.kubectl("exec", "-n", namespace, name, "-c", "sandbox", "--", "readlink", "/proc/1/ns/pid")


def _hook(*command: str, **more: Any) -> Json:
    return {"exec": {"command": list(command)}, **more}


def hooks_run_inside_the_sandbox(cloud: Cloud, namespace: str) -> None:
    """Before the exchange of its pod in the old one, afterwards in the new one, as root. One that fails or does not end
    in time is told in words, ends, and leaves the pod as it is.
    """
    name = _claimed(cloud, namespace)
    inside = ("exec", "-n", namespace, name, "-c", "sandbox", "--")
    write = f"$(id -u) $(readlink /proc/1/ns/pid) >> {LOG}"
    told = {step: _hook("sh", "-c", f"echo {step} {write}") for step in ("before", "after")}
    first, old = cloud.get("pod", name, "-n", namespace)["metadata"]["uid"], _place(cloud, namespace, name)
    done = _roll_out(cloud, namespace, "both", "new", preUpgrade=told["before"], postUpgrade=told["after"])
    assert (done["status"]["phase"], done["status"]["updatedReplicas"]) == ("Completed", 1)
    new = _place(cloud, namespace, name)
    assert cloud.kubectl(*inside, "cat", LOG) == f"before 0 {old}after 0 {new}"
    second = cloud.get("pod", name, "-n", namespace)["metadata"]["uid"]
    assert second != first
    for operation, hook, words in (
        ("fails", _hook("sh", "-c", "echo disk full >&2; exit 3"), "sh ended with exit code 3: disk full"),
        ("hangs", _hook("sleep", "3601", timeoutSeconds=2), "the hook did not end within 2 s"),
        ("misses", _hook("/no/such/program"), "/no/such/program"),
    ):
        done = _roll_out(cloud, namespace, operation, "newer", preUpgrade=hook)
        assert (done["status"]["phase"], done["status"]["failedReplicas"]) == ("Failed", 1)
        found = cloud.get("sbx", name, "-n", namespace)
        conditions = {item["type"]: item for item in found["status"]["conditions"]}
        assert conditions["Upgrading"]["reason"] == "PreUpgradeFailed" and conditions["Ready"]["status"] == "True"
        assert words in conditions["Upgrading"]["message"]
        assert cloud.get("pod", name, "-n", namespace)["metadata"]["uid"] == second
    assert "sleep 3601" not in cloud.kubectl(*inside, "ps", "-e", "-o", "args=")


CASES = (hooks_run_inside_the_sandbox,)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_update_hooks(outcomes: dict[Any, Future[None]], case: Any) -> None:
    """As the case's own sentence says."""
    outcomes[case].result()
