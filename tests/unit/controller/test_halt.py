"""Pauses that keep files without memory: the pod stays, a resume boots it, and a frozen one can lose its memory."""

from __future__ import annotations

from appliance.api import labels
from appliance.api.ids import access_token

PODS = "/api/v1/namespaces/default/pods"
POD_TEMPLATE = {"spec": {"containers": [{"name": "main", "env": [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}]}]}}
OWN = {labels.CLAIMED: "true", labels.SANDBOX_ID: "iabc"}
FILES_ONLY = {labels.PAUSE_CONTENTS: "filesystem"}


async def start(cluster, **meta):
    """A delivered sandbox on a node that can do everything."""
    cluster.node(freezer=True, keeps_files=True)
    spec = {"template": POD_TEMPLATE, **meta.pop("spec", {})}
    cluster.apply("sandboxes", "one", spec, labels=OWN, **meta)
    await cluster.until(lambda: status(cluster)["phase"] == "Running")
    return cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"]


def status(cluster):
    return cluster.get("sandboxes", "one")["status"]


def condition(cluster, kind):
    found = {item["type"]: item for item in status(cluster)["conditions"]}.get(kind, {})
    return found.get("status"), found.get("reason")


def pause(cluster, paused, **annotations):
    patch = {"spec": {"paused": paused}}
    cluster.patch("sandboxes", "one", {**patch, "metadata": {"annotations": annotations}} if annotations else patch)


async def resumed(cluster):
    pause(cluster, False)
    await cluster.until(lambda: status(cluster)["phase"] == "Running" and condition(cluster, "Ready")[0] == "True")


async def test_files_are_kept_and_the_resume_boots_and_initialises(cluster):
    """The same pod, halted and booted as often as asked; each boot gets /init with the same token once."""
    uid = await start(cluster, annotations=FILES_ONLY)
    for times in (1, 2, 3):
        pause(cluster, True)
        await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("True", "FilesystemPauseSucceed"))
        assert status(cluster)["phase"] == "Paused"
        await resumed(cluster)
        assert [call[0] for call in cluster.runtime.calls] == ["/init"] * times
        assert cluster.runtime.calls[-1][3] == access_token(b"s" * 32, "iabc")
        assert condition(cluster, "SandboxPaused") == (None, None)
    assert condition(cluster, "Restarted") == (None, None), "these boots were asked for"
    assert cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"] == uid


async def test_the_spec_can_ask_for_it(cluster):
    """persistentContents filesystem means exactly this pause, not a frozen sandbox."""
    await start(cluster, spec={"persistentContents": ["filesystem"]})
    pause(cluster, True)
    await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("True", "FilesystemPauseSucceed"))
    await resumed(cluster)


async def test_a_frozen_one_can_give_its_memory_up(cluster):
    """Asked for while it is frozen, its processes end; it stays paused, and the next resume boots it."""
    await start(cluster)
    pause(cluster, True)
    await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("True", "FreezePauseSucceed"))
    cluster.patch("sandboxes", "one", {"metadata": {"annotations": FILES_ONLY}})
    await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("True", "FilesystemPauseSucceed"))
    await resumed(cluster)
    assert [call[0] for call in cluster.runtime.calls] == ["/init"]


async def test_memory_that_was_lost_is_not_called_kept(cluster):
    """A node that reports a frozen pod as halted makes the pause a filesystem one, in words; it still resumes."""
    await start(cluster)
    pause(cluster, True)
    await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("True", "FreezePauseSucceed"))
    cluster.pod_status("one", conditions=[{"type": labels.CONDITION_HALTED, "status": "True"}])
    cluster.node_works = False
    await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("True", "FilesystemPauseSucceed"))
    (told,) = [item["message"] for item in status(cluster)["conditions"] if item["type"] == "SandboxPaused"]
    assert "memory is lost" in told
    cluster.node_works = True
    await resumed(cluster)


async def test_a_pause_taken_back_halfway_boots_again(cluster):
    """Unpaused before the node has said anything, the sandbox is asked to run, and does."""
    await start(cluster, annotations=FILES_ONLY)
    cluster.node_works = False
    pause(cluster, True)
    pod = cluster.server.objects[f"{PODS}/one"]["metadata"]
    await cluster.until(lambda: pod_wish(cluster) == "halted")
    pause(cluster, False)
    await cluster.until(lambda: pod_wish(cluster) == "running")
    cluster.node_works = True
    await cluster.until(lambda: condition(cluster, "Ready")[0] == "True")
    assert cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"] == pod["uid"]


def pod_wish(cluster):
    return cluster.server.objects[f"{PODS}/one"]["metadata"].get("annotations", {}).get(labels.DESIRED_STATE)


async def test_a_node_that_cannot_is_said_so(cluster):
    """Elsewhere the sandbox runs on and a condition says what is missing."""
    cluster.node(freezer=True)
    cluster.apply("sandboxes", "one", {"template": POD_TEMPLATE}, labels=OWN, annotations=FILES_ONLY)
    await cluster.until(lambda: status(cluster)["phase"] == "Running")
    pause(cluster, True)
    await cluster.until(lambda: condition(cluster, "SandboxPaused") == ("False", "Failed"))
    assert "cannot end processes and keep files" in status(cluster)["message"]


async def test_a_lost_pod_of_a_halted_sandbox_fails_it(cluster):
    """The files were in the pod: without it the sandbox is failed, not silently made anew."""
    await start(cluster, annotations=FILES_ONLY)
    pause(cluster, True)
    await cluster.until(lambda: status(cluster)["phase"] == "Paused")
    cluster.server.delete(f"{PODS}/one", {})
    pause(cluster, False)
    await cluster.until(lambda: status(cluster)["phase"] == "Failed")
    assert "Pod Not Found" in status(cluster)["message"]
