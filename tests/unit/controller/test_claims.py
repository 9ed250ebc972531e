"""SandboxClaims at work on an API server in memory."""

from __future__ import annotations

import pytest

from appliance.api import labels


def claim(cluster, name="k", **spec):
    cluster.apply("sandboxclaims", name, {"templateName": "ci", **spec})


def status(cluster, name="k"):
    return cluster.get("sandboxclaims", name).get("status", {})


def completed(cluster, name="k"):
    return next(item for item in status(cluster, name)["conditions"] if item["type"] == "Completed")


async def full_pool(cluster, count):
    cluster.pool(count)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == count)


async def test_a_claim_is_one_patch_and_one_status(cluster):
    """With stock, one sandbox costs one sandbox write and one status write, and the status names it."""
    await full_pool(cluster, 2)
    cluster.patch("sandboxsets", "ci", {"spec": {"replicas": 1, "scaleStrategy": {"maxUnavailable": 0}}})
    await cluster.until(lambda: cluster.status()["replicas"] == 1)
    before = cluster.server.writes("sandboxes", "sandboxclaims/status", "sandboxclaims", "pods", "secrets")
    claim(cluster)
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    after = cluster.server.writes("sandboxes", "sandboxclaims/status", "sandboxclaims", "pods", "secrets")
    assert after - before == {("patch", "sandboxes"): 1, ("patch", "sandboxclaims/status"): 1}
    (named,) = status(cluster)["claimedSandboxes"]
    taken = cluster.get("sandboxes", named["name"])["metadata"]["labels"]
    assert taken[labels.SANDBOX_ID] == named["sandboxID"] and taken[labels.CLAIM_NAME] == "k"


async def test_many_replicas_with_labels_and_environment(cluster):
    """Replicas, labels (also on the pods), annotations and environment all arrive; nothing is claimed twice."""
    await full_pool(cluster, 8)
    claim(cluster, replicas=5, labels={"team": "x"}, annotations={"note": "y"}, envVars={"A": "b"})
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    names = {item["name"] for item in status(cluster)["claimedSandboxes"]}
    assert len(names) == status(cluster)["claimedReplicas"] == 5
    for name in names:
        assert cluster.get("sandboxes", name)["metadata"]["annotations"]["note"] == "y"
    dressed = [pod["metadata"]["name"] for pod in cluster.server.of("pods") if pod["metadata"]["labels"].get("team")]
    assert set(dressed) == names
    assert [call[2]["envVars"]["A"] for call in cluster.runtime.calls] == ["b"] * 5


async def test_waits_for_stock_and_is_woken_by_it(cluster):
    """Without stock and without creation a claim waits, says Claiming, and is served when a sandbox comes up."""
    cluster.node_works = False
    cluster.pool(1)
    claim(cluster, createOnNoStock=False)
    await cluster.until(lambda: status(cluster)["phase"] == "Claiming")
    cluster.node_works = True
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert completed(cluster)["reason"] == "AllClaimed"


async def test_time_out(cluster):
    """At claimTimeout a claim completes with what it got and the TimedOut condition."""
    await full_pool(cluster, 1)
    cluster.patch("sandboxsets", "ci", {"spec": {"scaleStrategy": {"maxUnavailable": 0}}})
    await cluster.settle(20)
    claim(cluster, replicas=2, createOnNoStock=False, claimTimeout="30s")
    await cluster.until(lambda: status(cluster)["claimedReplicas"] == 1)
    cluster.pass_time(seconds=31)
    cluster.patch("sandboxsets", "ci", {"spec": {"replicas": 1, "updateStrategy": {"maxUnavailable": 1}}})
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert completed(cluster)["reason"] == "TimedOut"
    assert status(cluster)["claimedReplicas"] == 1


async def test_status_loss_heals(cluster):
    """A status that is wiped comes back from the sandboxes that carry the claim's UID; no second one is taken."""
    await full_pool(cluster, 3)
    claim(cluster)
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    first = status(cluster)["claimedSandboxes"]
    wiped = dict.fromkeys(status(cluster), None)
    cluster.server.patch("/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxclaims/k/status", {"status": wiped})
    cluster.patch("sandboxclaims", "k", {"spec": {"ttlAfterCompleted": "2h"}})
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert status(cluster)["claimedSandboxes"] == first


async def test_ttl_deletes_only_the_claim(cluster):
    """After ttlAfterCompleted the claim object goes, its sandbox stays."""
    await full_pool(cluster, 1)
    claim(cluster, ttlAfterCompleted="10m")
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    name = status(cluster)["claimedSandboxes"][0]["name"]
    cluster.pass_time(minutes=11)
    cluster.patch("sandboxclaims", "k", {"spec": {"ttlAfterCompleted": "9m"}})
    await cluster.until(lambda: not cluster.server.of("sandboxclaims"))
    assert cluster.get("sandboxes", name)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"inplaceUpdate": {"image": "Not An Image"}}, "spec.inplaceUpdate.image"),
        ({"inplaceUpdate": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}, "spec.inplaceUpdate.resources.limits"),
        ({"inplaceUpdate": {"resources": {"requests": {"cpu": "-1"}}}}, "spec.inplaceUpdate.resources.requests.cpu"),
        ({"dynamicVolumesMount": [{"mountPath": "/x", "pvName": "y"}]}, "spec.dynamicVolumesMount"),
        ({"runtimes": [{"name": "csi"}]}, "spec.runtimes[0].name"),
        ({"labels": {labels.SANDBOX_ID: "mine"}}, "spec.labels"),
        ({"annotations": {labels.LOCK: "mine"}}, "spec.annotations"),
        ({"claimTimeout": "soon"}, "spec.claimTimeout"),
        ({"waitReadyTimeout": "-1s"}, "spec.waitReadyTimeout"),
    ],
)
async def test_what_cannot_be_honoured_is_refused_by_name(cluster, spec, field):
    """A claim with an unsupported or reserved field completes at once, names it, and takes nothing."""
    await full_pool(cluster, 1)
    claim(cluster, **spec)
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert field in completed(cluster)["message"] and status(cluster)["claimedReplicas"] == 0
    assert cluster.status()["availableReplicas"] == 1


async def test_a_failing_runtime_leaves_no_sandboxes(cluster):
    """When no runtime can be initialised, the claim counts nothing and says why."""
    await full_pool(cluster, 1)
    cluster.runtime.refuse = True
    claim(cluster, createOnNoStock=False)
    await cluster.until(lambda: "refused" in status(cluster).get("message", ""))
    assert status(cluster)["claimedReplicas"] == 0
    cluster.runtime.refuse = False
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    taken = [item for item in cluster.server.of("sandboxes") if item["metadata"]["labels"][labels.CLAIMED] == "true"]
    assert len(taken) == 1


async def test_taken_before_a_crash_is_initialised_after_it(cluster):
    """A sandbox that carries the claim's UID but is in no status gets its /init before it is reported."""
    await full_pool(cluster, 1)
    await cluster.stop()
    claim(cluster, envVars={"A": "b"})
    uid = cluster.get("sandboxclaims", "k")["metadata"]["uid"]
    name = cluster.members()[0]["metadata"]["name"]
    own = {labels.CLAIMED: "true", labels.SANDBOX_ID: "iabc"}
    meta = {"ownerReferences": [], "labels": own, "annotations": {labels.OWNER: uid, labels.LOCK: "x"}}
    cluster.patch("sandboxes", name, {"metadata": meta})
    cluster.renew()
    await cluster.start()
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert status(cluster)["claimedSandboxes"] == [{"name": name, "sandboxID": "iabc"}]
    ((path, _, body, _),) = cluster.runtime.calls
    assert path == "/init" and body["envVars"]["A"] == "b"


async def test_a_deleted_claim_gives_up_what_is_under_way(cluster):
    """Deleting a claim that still waits for its update stops it, and the sandbox it had taken goes."""
    await full_pool(cluster, 1)
    cluster.patch("sandboxsets", "ci", {"spec": {"scaleStrategy": {"maxUnavailable": 0}}})
    claim(cluster, inplaceUpdate={"image": "other:1"})
    await cluster.until(lambda: status(cluster)["phase"] == "Claiming")
    assert status(cluster).get("claimedReplicas", 0) == 0
    cluster.delete("sandboxclaims", "k")
    await cluster.until(lambda: all(item["metadata"]["ownerReferences"] for item in cluster.server.of("sandboxes")))


async def test_a_set_may_ask_for_the_runtime_by_name(cluster):
    """spec.runtimes gives the pod sidecar, volume, variable and hook; claims initialise it; other names are refused."""
    bare = {"spec": {"containers": [{"name": "main", "image": "x"}]}}
    cluster.pool(1, template=bare, runtimes=[{"name": "agent-runtime"}])
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 1)
    (pod,) = cluster.server.of("pods")
    (main,) = pod["spec"]["containers"]
    assert main["lifecycle"]["postStart"]["exec"]["command"] == ["/mnt/agent-runtime/appliance-runtime", "start"]
    assert pod["spec"]["initContainers"][0]["restartPolicy"] == "Always"
    claim(cluster)
    await cluster.until(lambda: status(cluster)["phase"] == "Completed")
    assert cluster.runtime.calls[0][0] == "/init"
    cluster.patch("sandboxsets", "ci", {"spec": {"runtimes": [{"name": "csi"}]}})
    await cluster.until(lambda: any("spec.runtimes[0].name" in c["message"] for c in cluster.status()["conditions"]))
