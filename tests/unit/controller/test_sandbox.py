"""Sandboxes at work on an API server in memory: phases, timers, pauses, losses."""

from __future__ import annotations

import base64
import json

from appliance.api import labels, times
from appliance.api.egress import Egress, encode
from appliance.api.header_rules import Authority, HeaderRules, to_data
from appliance.api.ids import access_token

PODS = "/api/v1/namespaces/default/pods"
POD_TEMPLATE = {"spec": {"containers": [{"name": "main", "env": [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}]}]}}


def make(cluster, name="one", **spec):
    cluster.apply("sandboxes", name, {"template": POD_TEMPLATE, **spec})


def condition(cluster, kind, name="one"):
    found = cluster.get("sandboxes", name)["status"]["conditions"]
    return next(
        ((item["status"], item["reason"], item["message"]) for item in found if item["type"] == kind), ("", "", "")
    )


def phase(cluster, name="one"):
    return cluster.get("sandboxes", name)["status"]["phase"]


async def test_a_standalone_sandbox_runs(cluster):
    """A Sandbox made by hand gets a pod of its name and becomes Running and Ready with one status write."""
    make(cluster)
    await cluster.until(lambda: phase(cluster) == "Running")
    assert condition(cluster, "Ready")[:2] == ("True", "PodReady")
    assert cluster.server.requests["patch", "sandboxes/status"] == 1
    assert cluster.server.objects[f"{PODS}/one"]["metadata"]["labels"][labels.SANDBOX_NAME] == "one"


async def test_freeze_and_thaw_on_a_node_with_a_freezer(cluster):
    """Without a strategy a sandbox on a freezing node is frozen, keeps its pod, and thaws to Running."""
    cluster.node(freezer=True)
    make(cluster)
    await cluster.until(lambda: phase(cluster) == "Running")
    uid = cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"]
    for _ in range(3):
        cluster.patch("sandboxes", "one", {"spec": {"paused": True}})
        await cluster.until(lambda: condition(cluster, "SandboxPaused")[:2] == ("True", "FreezePauseSucceed"))
        assert phase(cluster) == "Paused"
        cluster.patch("sandboxes", "one", {"spec": {"paused": False}})
        await cluster.until(lambda: phase(cluster) == "Running")
    assert cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"] == uid
    assert condition(cluster, "SandboxResumed")[:2] == ("True", "ResumePod")


async def test_explicit_freeze_elsewhere_uses_the_runtime(cluster):
    """On a node without freezer, Freeze calls the runtime's /freeze and /unfreeze."""
    cluster.node()
    make(cluster, pauseStrategy={"type": "Freeze"})
    await cluster.until(lambda: phase(cluster) == "Running")
    cluster.patch("sandboxes", "one", {"spec": {"paused": True}})
    await cluster.until(lambda: phase(cluster) == "Paused")
    cluster.patch("sandboxes", "one", {"spec": {"paused": False}})
    await cluster.until(lambda: phase(cluster) == "Running")
    assert [call[0] for call in cluster.runtime.calls] == ["/freeze", "/unfreeze"]


async def test_stop_and_resume_initialises_again(cluster):
    """Stop deletes the pod; a resume makes a new one and replays /init: same token, environment, authority of rules."""
    cluster.node()
    secret = {"metadata": {"name": "one-init"}, "data": {"envVars": base64.b64encode(b'{"A":"b"}').decode()}}
    cluster.server.create("/api/v1/namespaces/default/secrets", json.loads(json.dumps(secret)))
    rules = {"metadata": {"name": "one-rules-r1"}, "data": to_data(HeaderRules({}, Authority("certificate", "key")))}
    cluster.server.create("/api/v1/namespaces/default/secrets", json.loads(json.dumps(rules)))
    own = {labels.CLAIMED: "true", labels.SANDBOX_ID: "iabc", labels.TEMPLATE: "ci"}
    spec = {"template": POD_TEMPLATE, "pauseStrategy": {"type": "Stop"}}
    cluster.apply("sandboxes", "one", spec, labels=own, annotations={labels.EGRESS: encode(Egress(rules="r1"))})
    await cluster.until(lambda: phase(cluster) == "Running")
    cluster.patch("sandboxes", "one", {"spec": {"paused": True}})
    await cluster.until(lambda: condition(cluster, "SandboxPaused")[:2] == ("True", "StopPauseSucceed"))
    assert cluster.server.of("pods") == [] and cluster.runtime.calls == []
    cluster.patch("sandboxes", "one", {"spec": {"paused": False}})
    await cluster.until(lambda: condition(cluster, "Ready")[0] == "True")
    ((path, _, body, token),) = cluster.runtime.calls
    assert path == "/init" and body["accessToken"] == token == access_token(b"s" * 32, "iabc")
    assert body["envVars"]["A"] == "b" and body["envVars"]["E2B_TEMPLATE_ID"] == "ci"
    assert body["caBundle"] == "certificate" and "key" not in body.values()
    assert condition(cluster, "RuntimeInitialized")[:2] == ("True", "Succeeded")


async def test_unsupported_strategy_is_refused_in_words(cluster):
    """Hibernate is not silently something else: the sandbox runs on and a condition names the field."""
    make(cluster, pauseStrategy={"type": "Hibernate"})
    await cluster.until(lambda: phase(cluster) == "Running")
    cluster.patch("sandboxes", "one", {"spec": {"paused": True}})
    await cluster.until(lambda: condition(cluster, "SandboxPaused")[0])
    assert condition(cluster, "SandboxPaused")[0] == "False"
    assert "spec.pauseStrategy.type" in condition(cluster, "SandboxPaused")[2]


async def test_lost_pod_and_out_of_memory_are_told(cluster):
    """A deleted pod makes the sandbox Failed; a killed one says that memory ran out."""
    make(cluster, "gone")
    make(cluster, "oom")
    await cluster.until(lambda: phase(cluster, "gone") == phase(cluster, "oom") == "Running")
    cluster.server.delete(f"{PODS}/gone", {})
    ended = {"name": "main", "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    cluster.pod_status("oom", phase="Failed", containerStatuses=[ended], conditions=[])
    await cluster.until(lambda: phase(cluster, "gone") == phase(cluster, "oom") == "Failed")
    assert "Pod Not Found" in cluster.get("sandboxes", "gone")["status"]["message"]
    assert "out of memory" in cluster.get("sandboxes", "oom")["status"]["message"]


async def test_shutdown_time_also_ends_failed_ones(cluster):
    """A failed sandbox is deleted at its shutdownTime like any other."""
    make(cluster, shutdownTime=times.format(cluster.now.replace(hour=1)))
    await cluster.until(lambda: phase(cluster) == "Running")
    cluster.server.delete(f"{PODS}/one", {})
    await cluster.until(lambda: phase(cluster) == "Failed")
    cluster.pass_time(hours=2)
    cluster.patch("sandboxes", "one", {"metadata": {"labels": {"poke": "1"}}})
    await cluster.until(lambda: not cluster.server.of("sandboxes"))


async def test_a_missing_template_is_waited_for(cluster):
    """A sandbox whose SandboxTemplate is missing says so and starts as soon as it appears."""
    cluster.apply("sandboxes", "one", {"templateRef": {"name": "later"}})
    await cluster.until(lambda: any(event["reason"] == "TemplateMissing" for event in cluster.server.of("events")))
    await cluster.until(lambda: "later" in cluster.get("sandboxes", "one")["status"]["message"])
    cluster.apply("sandboxtemplates", "later", {"template": POD_TEMPLATE})
    await cluster.until(lambda: phase(cluster) == "Running")


async def test_finalizer_is_honoured_and_removed(cluster):
    """A sandbox that carries the finalizer ends after its pod."""
    cluster.apply("sandboxes", "one", {"template": POD_TEMPLATE}, finalizers=[labels.FINALIZER_SANDBOX])
    await cluster.until(lambda: phase(cluster) == "Running")
    cluster.delete("sandboxes", "one")
    await cluster.until(lambda: not cluster.server.of("sandboxes") and not cluster.server.of("pods"))


async def test_restarted_container_is_initialised_again(cluster):
    """When a delivered sandbox's container restarts, the fresh runtime gets token and environment back."""
    own = {labels.CLAIMED: "true", labels.SANDBOX_ID: "iabc"}
    stamp = {labels.CLAIM_TIMESTAMP: times.format(cluster.now, micro=True)}
    cluster.apply("sandboxes", "one", {"template": POD_TEMPLATE}, labels=own, annotations=stamp)
    await cluster.until(lambda: phase(cluster) == "Running")
    again = {
        "name": "main",
        "ready": True,
        "restartCount": 1,
        "state": {"running": {"startedAt": "2026-01-01T00:10:00Z"}},
    }
    cluster.pod_status("one", containerStatuses=[again])
    await cluster.until(lambda: [call[0] for call in cluster.runtime.calls] == ["/init"])
    await cluster.until(lambda: condition(cluster, "RuntimeInitialized")[0] == "True")
    await cluster.settle(30)
    assert len(cluster.runtime.calls) == 1


async def test_every_restart_of_a_delivered_sandbox_is_told(cluster):
    """Each restart is in the condition, with why and what is lost, and one event; a second look adds nothing."""
    own = {labels.CLAIMED: "true", labels.SANDBOX_ID: "iabc"}
    stamp = {labels.CLAIM_TIMESTAMP: times.format(cluster.now, micro=True)}
    cluster.apply("sandboxes", "one", {"template": POD_TEMPLATE}, labels=own, annotations=stamp)
    await cluster.until(lambda: phase(cluster) == "Running")
    assert condition(cluster, "Restarted")[0] == ""
    for count, reason, words in ((1, "Error", "ended with exit code 137"), (2, "OOMKilled", "out of memory")):
        again = {
            "name": "main",
            "ready": True,
            "restartCount": count,
            "state": {"running": {"startedAt": "2026-01-01T00:10:00Z"}},
            "lastState": {"terminated": {"exitCode": 137, "reason": reason}},
        }
        cluster.pod_status("one", containerStatuses=[again])
        await cluster.until(lambda count=count: f"(restart {count})" in str(condition(cluster, "Restarted")))
        said = condition(cluster, "Restarted")
        assert said[0] == "True" and words in str(said) and "memory are lost" in str(said)
    await cluster.settle(30)
    told = [event["message"] for event in cluster.server.of("events") if event["reason"] == "Restarted"]
    assert [("restart 1" in one, "restart 2" in one) for one in told] == [(True, False), (False, True)]
