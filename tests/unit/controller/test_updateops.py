"""SandboxUpdateOps: strategic merge patches as a table, and roll-outs on an API server in memory."""

from __future__ import annotations

import pytest

from appliance.api import labels
from appliance.controller import hooks
from appliance.controller.template_patch import merge_patch, patched
from appliance.kube.label_selector import matches

PODS = "/api/v1/namespaces/default/pods"
PATCH = {"spec": {"containers": [{"name": "sandbox", "image": "two:1"}]}}


def template(image="one:1"):
    return {"spec": {"containers": [{"name": "sandbox", "image": image, "env": [{"name": "A", "value": "b"}]}]}}


CONTAINERS = {
    "spec": {"containers": [{"name": "a", "image": "x", "env": [{"name": "E", "value": "1"}], "args": ["1"]}]}
}


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        (
            {"name": "a", "image": "y"},
            [{"name": "a", "image": "y", "env": [{"name": "E", "value": "1"}], "args": ["1"]}],
        ),
        ({"name": "a", "args": ["2"], "env": None}, [{"name": "a", "image": "x", "args": ["2"]}]),
        (
            {"name": "a", "env": [{"name": "E", "$patch": "delete"}, {"name": "F", "value": "2"}]},
            [{"name": "a", "image": "x", "env": [{"name": "F", "value": "2"}], "args": ["1"]}],
        ),
        ({"name": "a", "$patch": "delete"}, []),
        ({"name": "b", "image": "z"}, [*CONTAINERS["spec"]["containers"], {"name": "b", "image": "z"}]),
    ],
)
def test_strategic_merge(patch, expected):
    """Elements with a merge key are merged, added and deleted one by one; the original is untouched; twice is once."""
    found = patched(CONTAINERS, {"spec": {"containers": [patch]}})
    assert found["spec"]["containers"] == expected
    assert CONTAINERS["spec"]["containers"][0]["image"] == "x"
    assert patched(found, {"spec": {"containers": [patch]}}) == found


def test_what_a_patch_must_say():
    """An element without its key and an unknown directive are refused by path."""
    with pytest.raises(ValueError, match=r"patch\.spec\.containers\[0\]\.name"):
        patched(CONTAINERS, {"spec": {"containers": [{"image": "y"}]}})
    with pytest.raises(ValueError, match=r"\$setElementOrder"):
        patched(CONTAINERS, {"spec": {"$setElementOrder/containers": []}})


def test_merge_patch_says_what_is_gone():
    """The JSON merge patch between two objects holds null for what the second lacks, and nothing that is equal."""
    assert merge_patch({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"c": 1, "d": 3}}) == {"a": None, "b": {"d": 3}}


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"matchLabels": {"a": "1"}}, True),
        ({"matchLabels": {"a": "2"}}, False),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "2"]}]}, True),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]}, False),
        ({"matchExpressions": [{"key": "b", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]}, False),
    ],
)
def test_label_selectors(selector, expected):
    """All requirements of metav1.LabelSelector."""
    assert matches(selector)({"a": "1"}) is expected


# At work ------------------------------------------------------------------------------------------------------------


def ops(cluster, name="u", **spec):
    cluster.apply("sandboxupdateops", name, {"selector": {"matchLabels": {"team": "x"}}, "patch": PATCH, **spec})


def status(cluster, name="u"):
    return cluster.get("sandboxupdateops", name).get("status", {})


def images(cluster):
    return sorted(pod["spec"]["containers"][0]["image"] for pod in cluster.server.of("pods"))


def ready(cluster, name):
    found = cluster.get("sandboxes", name).get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in found)


async def sandboxes(cluster, count, **spec):
    for number in range(count):
        cluster.apply("sandboxes", f"s{number}", {"template": template(), **spec}, labels={"team": "x"})
    await cluster.until(lambda: all(ready(cluster, f"s{number}") for number in range(count)))


@pytest.fixture
def executed(monkeypatch):
    """Commands that hooks ran; one that holds ``fail`` fails."""
    ran: list[list[str]] = []

    async def execute(ip, port, token, command, limit):
        ran.append(command)
        return "it broke" if "fail" in command else ""

    monkeypatch.setattr(hooks, "execute", execute)
    return ran


async def test_one_at_a_time_with_hooks(cluster, executed):
    """Every chosen sandbox gets a new pod of the new image between its hooks, and never two at once; others stay."""
    await sandboxes(cluster, 3)
    cluster.apply("sandboxes", "other", {"template": template()})
    await cluster.until(lambda: ready(cluster, "other"))
    busiest = 0

    def done():
        nonlocal busiest
        upgrading = [s for s in cluster.server.of("sandboxes") if s.get("status", {}).get("phase") == "Upgrading"]
        busiest = max(busiest, len(upgrading))
        return status(cluster)["phase"] == "Completed"

    hook = {f"{when}Upgrade": {"exec": {"command": [when]}} for when in ("pre", "post")}
    ops(cluster, lifecycle=hook)
    await cluster.until(done, timeout=15)
    assert images(cluster) == ["one:1", "two:1", "two:1", "two:1"] and busiest == 1
    assert executed == [["pre"], ["post"]] * 3
    assert (status(cluster)["replicas"], status(cluster)["updatedReplicas"]) == (3, 3)
    assert "upgradePolicy" not in cluster.get("sandboxes", "s0")["spec"]
    assert cluster.get("sandboxupdateops", "u")["metadata"]["finalizers"] == [labels.FINALIZER_UPDATE_OPS]
    cluster.delete("sandboxupdateops", "u")
    await cluster.until(lambda: not cluster.server.of("sandboxupdateops"))
    assert labels.UPDATE_OPS not in cluster.get("sandboxes", "s0")["metadata"]["labels"]


async def test_a_failed_hook_stops_nobody_and_is_counted(cluster, executed):
    """preUpgrade fails everywhere: all sandboxes keep their pods, the operation is Failed and says how many."""
    await sandboxes(cluster, 2)
    before = {pod["metadata"]["uid"] for pod in cluster.server.of("pods")}
    ops(cluster, lifecycle={"preUpgrade": {"exec": {"command": ["fail"]}}})
    await cluster.until(lambda: status(cluster).get("phase") == "Failed", timeout=15)
    assert status(cluster)["failedReplicas"] == 2
    assert {pod["metadata"]["uid"] for pod in cluster.server.of("pods")} == before
    marked = [s["metadata"]["labels"].get(labels.UPGRADE_FAILED) for s in cluster.server.of("sandboxes")]
    assert marked == ["true", "true"]


async def test_what_failed_is_tried_again_by_the_next_operation(cluster, executed):
    """The same change with a hook that works: the pod is exchanged; with the same broken one it is Failed again. Never
    Completed because the template was written already.
    """
    await sandboxes(cluster, 1)
    for command, phase, image in (
        ("fail", "Failed", "one:1"),
        ("fail", "Failed", "one:1"),
        ("ok", "Completed", "two:1"),
    ):
        ops(cluster, lifecycle={"preUpgrade": {"exec": {"command": [command]}}})
        await cluster.until(lambda: status(cluster).get("phase") in ("Completed", "Failed"), timeout=15)
        assert (status(cluster)["phase"], images(cluster)) == (phase, [image])
        cluster.delete("sandboxupdateops", "u")
        await cluster.until(lambda: not cluster.server.of("sandboxupdateops"))


async def test_a_broken_image_stops_the_roll_out(cluster):
    """A sandbox that does not come back uses up maxUnavailable: the others are left alone."""
    await sandboxes(cluster, 3)
    cluster.node_works = False
    ops(cluster)
    await cluster.until(lambda: images(cluster).count("two:1") == 1)
    (broken,) = [p for p in cluster.server.of("pods") if p["spec"]["containers"][0]["image"] == "two:1"]
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    told = [{"name": "sandbox", "state": waiting}]
    cluster.pod_status(broken["metadata"]["name"], phase="Pending", containerStatuses=told)
    await cluster.until(lambda: status(cluster).get("phase") == "Failed")
    assert images(cluster) == ["one:1", "one:1", "two:1"] and status(cluster)["failedReplicas"] == 1


async def test_paused_operations_and_paused_sandboxes(cluster):
    """A paused operation begins nothing; a stopped sandbox only gets the template, and its next pod has it."""
    cluster.node()
    await sandboxes(cluster, 1, pauseStrategy={"type": "Stop"})
    cluster.patch("sandboxes", "s0", {"spec": {"paused": True}})
    await cluster.until(lambda: cluster.server.of("pods") == [])
    ops(cluster, paused=True, stateFilter={"states": ["Paused"]})
    await cluster.until(lambda: status(cluster).get("phase") == "Pending")
    await cluster.settle(30)
    assert cluster.get("sandboxes", "s0")["spec"]["template"] == template()
    cluster.patch("sandboxupdateops", "u", {"spec": {"paused": False}})
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert cluster.server.of("pods") == []
    cluster.patch("sandboxes", "s0", {"spec": {"paused": False}})
    await cluster.until(lambda: ready(cluster, "s0"))
    assert images(cluster) == ["two:1"]


async def test_a_frozen_sandbox_is_thawed_and_frozen_again(cluster):
    """With the state filter Paused a frozen sandbox is resumed for its upgrade and paused afterwards."""
    cluster.node(freezer=True)
    await sandboxes(cluster, 1)
    cluster.patch("sandboxes", "s0", {"spec": {"paused": True}})
    await cluster.until(lambda: cluster.get("sandboxes", "s0")["status"]["phase"] == "Paused")
    ops(cluster, stateFilter={"states": ["Paused"]})
    await cluster.until(lambda: status(cluster).get("phase") == "Completed", timeout=15)
    assert images(cluster) == ["two:1"]
    await cluster.until(lambda: cluster.get("sandboxes", "s0")["status"]["phase"] == "Paused")
    assert labels.UPGRADE_RESUME not in cluster.get("sandboxes", "s0")["metadata"].get("annotations", {})


async def test_in_place(cluster):
    """The strategy InPlace changes the running pods, which stay."""
    await sandboxes(cluster, 2)
    before = {pod["metadata"]["uid"] for pod in cluster.server.of("pods")}
    ops(cluster, updateStrategy={"type": "InPlace", "maxUnavailable": "100%"})
    await cluster.until(lambda: images(cluster) == ["two:1", "two:1"])
    for name in ("s0", "s1"):
        state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
        told = {"name": "sandbox", "image": "two:1", "containerID": "c://2", "ready": True, "state": state}
        cluster.pod_status(name, containerStatuses=[told])
    await cluster.until(lambda: status(cluster).get("phase") == "Completed")
    assert {pod["metadata"]["uid"] for pod in cluster.server.of("pods")} == before


async def test_two_operations_share_a_namespace(cluster):
    """An operation waits for a sandbox that another one, still at work, has taken; then it has its turn."""
    await sandboxes(cluster, 1)
    cluster.node_works = False
    ops(cluster, "first")
    await cluster.until(lambda: images(cluster) == ["two:1"])
    again = {"spec": {"containers": [{"name": "sandbox", "image": "three:1"}]}}
    ops(cluster, "second", patch=again)
    await cluster.settle(300)
    assert images(cluster) == ["two:1"]
    cluster.node_works = True
    await cluster.until(lambda: status(cluster, "second").get("phase") == "Completed", timeout=15)
    assert images(cluster) == ["three:1"] and status(cluster, "first")["phase"] == "Completed"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"updateStrategy": {"type": "CheckpointRestore"}}, "spec.updateStrategy.type"),
        ({"selector": {}}, "spec.selector"),
        ({"selector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}, "operator"),
        ({"patch": {"spec": {"containers": [{"image": "x"}]}}}, "patch.spec.containers[0].name"),
        ({"lifecycle": {"preUpgrade": {}}}, "spec.lifecycle.preUpgrade.exec.command"),
        ({"updateStrategy": {"maxUnavailable": "many"}}, "spec.updateStrategy.maxUnavailable"),
    ],
)
async def test_what_cannot_be_done_is_said(cluster, spec, field):
    """The operation is Failed with a condition that names the field, and no sandbox is touched."""
    await sandboxes(cluster, 1)
    ops(cluster, **spec)
    await cluster.until(lambda: status(cluster).get("phase") == "Failed")
    assert field in status(cluster)["conditions"][0]["message"]
    assert images(cluster) == ["one:1"]
