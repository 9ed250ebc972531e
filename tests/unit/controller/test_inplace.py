"""Changes of running pods: what differs, how far the node is, and claims that ask for another image."""

from __future__ import annotations

import json

import pytest

from appliance.api import labels
from appliance.api.corestructs import ContainerState, ContainerStateRunning, ContainerStatus, Pod, PodSpec, PodStatus
from appliance.api.structs import Condition, Meta
from appliance.claims.updating import Update, updated
from appliance.controller.inplace import Stage, change_of, immutable_part, progress_of, resize_patch, update_patch

PODS = "/api/v1/namespaces/default/pods"
TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {
        "containers": [
            {
                "name": "sandbox",
                "image": "one:1",
                "env": [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}],
                "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
            }
        ]
    },
}


def with_container(**fields):
    return {**TEMPLATE, "spec": {"containers": [{**TEMPLATE["spec"]["containers"][0], **fields}]}}


def pod(*, state=None, container=None, status=None, ready="True", conditions=(), observed=0, generation=0):
    notes = {labels.HASH_IMMUTABLE: immutable_part(TEMPLATE)}
    if state is not None:
        notes[labels.INPLACE_STATE] = json.dumps({"revision": "new", "lastContainerStatuses": state})
    meta = Meta(
        name="p", namespace="default", uid="u", generation=generation, annotations=notes,
        labels={labels.POD_TEMPLATE_HASH: "old", "app": "x"},
    )  # fmt: skip
    spec = container or {
        "name": "sandbox", "image": "one:1",
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    }  # fmt: skip
    found = [Condition(type="Ready", status=ready), *conditions]
    told = PodStatus(
        phase="Running", conditions=found, observed_generation=observed, container_statuses=[status] if status else []
    )
    return Pod(meta=meta, spec=PodSpec(containers=[spec]), status=told)


def running(container_id="c2", image="two:1", image_id="sha2", resources=None):
    state = ContainerState(running=ContainerStateRunning(started_at="2026-01-01T00:00:00Z"))
    return ContainerStatus(
        name="sandbox", ready=True, image=image, image_id=image_id, container_id=container_id, state=state,
        resources=resources,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (with_container(image="two:1"), {"images": {"sandbox": "two:1"}}),
        (with_container(resources={"limits": {"cpu": "1000m", "memory": "1Gi"}}), {}),
        (with_container(command=["other"]), {"forbidden": True}),
        (with_container(resources={"limits": {"cpu": 1, "memory": "1Gi", "nvidia.com/gpu": 1}}), {"forbidden": True}),
        ({**TEMPLATE, "metadata": {"labels": {"app": "y"}}}, {"metadata": {"labels": {"app": "y"}, "annotations": {}}}),
    ],
)
def test_what_differs(template, expected):
    """Images, amounts and metadata can change; an amount spelled otherwise is none; anything else is forbidden."""
    found = change_of(template, "new", pod())
    assert found is not None
    got = {"images": dict(found.images), "resources": dict(found.resources), "forbidden": found.forbidden}
    wanted = {"images": {}, "resources": {}, "forbidden": False, **{k: v for k, v in expected.items() if k in got}}
    assert got == wanted
    if "metadata" in expected:
        assert found.metadata == expected["metadata"] and not found.disturbs


def test_less_and_more_are_changes_alike():
    """A smaller limit is a change like a larger one, and the patches carry the whole container."""
    template = with_container(resources={"limits": {"cpu": "500m", "memory": "2Gi"}}, image="two:1")
    found = change_of(template, "new", pod(status=running("c1", "one:1", "sha1")))
    patch = resize_patch(found, pod())
    amounts = {"cpu": "500m", "memory": "2Gi"}
    assert patch["spec"]["containers"][0]["resources"] == {"requests": amounts, "limits": amounts}
    written = update_patch(found, pod(status=running("c1", "one:1", "sha1")), "now")
    assert written["spec"]["containers"][0]["image"] == "two:1"
    state = json.loads(written["metadata"]["annotations"][labels.INPLACE_STATE])
    assert state["lastContainerStatuses"] == {"sandbox": {"containerID": "c1", "imageID": "sha1"}}


NEW = {"name": "sandbox", "image": "two:1", "resources": {"limits": {"cpu": "2"}}}
BEFORE = {"sandbox": {"containerID": "c1", "imageID": "sha1"}}
TWO = {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}
FULL = "docker.io/library/two:1"
ONE = {"requests": {"cpu": "1"}, "limits": {"cpu": "1"}}
FOUR = {"requests": {"cpu": "4"}, "limits": {"cpu": "4"}}


@pytest.mark.parametrize(
    ("found", "stage"),
    [
        (pod(), Stage.NONE),
        (pod(state=BEFORE, container=NEW, status=running("c1", "one:1", "sha1")), Stage.PENDING),
        (pod(state=BEFORE, container=NEW, status=running(resources=TWO)), Stage.DONE),
        (pod(state=BEFORE, container=NEW, status=running(image=FULL, image_id="sha1")), Stage.DONE),
        (pod(state=BEFORE, container=NEW, status=running(image="old:0", image_id="sha1")), Stage.PENDING),
        (
            pod(state=BEFORE, container=NEW, status=running(image="old:0", image_id="sha1"), generation=3, observed=3),
            Stage.DONE,
        ),
        (pod(state=BEFORE, container=NEW, status=running(), ready="False"), Stage.PENDING),
        (pod(state={}, container=NEW, status=running(resources=ONE)), Stage.PENDING),
        (pod(state={}, container=NEW, status=running(resources=FOUR)), Stage.PENDING),
        (
            pod(
                state={}, container=NEW, status=running(resources=ONE),
                conditions=[Condition(type="PodResizePending", status="True", reason="Infeasible", message="no")],
            ),
            Stage.FAILED,
        ),
        (
            pod(
                state={}, container=NEW, status=running(resources=ONE),
                conditions=[Condition(type="PodResizePending", status="True", reason="Deferred", message="later")],
            ),
            Stage.PENDING,
        ),
    ],
)  # fmt: skip
def test_how_far_it_is(found, stage):
    """Done needs another container of the new image and exactly the amounts asked for; infeasible is a failure."""
    assert progress_of(found).stage is stage


@pytest.mark.parametrize(
    ("update", "resources"),
    [
        (Update(limits={"cpu": "2"}), {"limits": {"cpu": "2", "memory": "1Gi"}}),
        (Update(requests={"cpu": "500m"}), {"limits": {"cpu": "500m", "memory": "1Gi"}}),
        (
            Update(requests={"cpu": "500m"}, limits={"cpu": "2"}),
            {"limits": {"cpu": "2", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
        ),
        (Update(limits={"cpu": "1000m"}), {"limits": {"cpu": 1, "memory": "1Gi"}}),
    ],
)
def test_equal_request_and_limit_stay_equal(update, resources):
    """A pod that is Guaranteed stays so when only one of the two is given; the same amount is no change."""
    found = updated(TEMPLATE, update)["spec"]["containers"][0]["resources"]
    assert found == resources


# At work ------------------------------------------------------------------------------------------------------------


def condition(cluster, name, kind):
    found = cluster.get("sandboxes", name).get("status", {}).get("conditions", [])
    return next(
        ((item["status"], item["reason"], item["message"]) for item in found if item["type"] == kind), ("",) * 3
    )


def obey(cluster, name, *, failure=""):
    """The node's part of a change: a new container of the image in the manifest, or the reason why there is none."""
    found = cluster.server.objects[f"{PODS}/{name}"]
    (container,) = found["spec"]["containers"]
    old = (found["status"].get("containerStatuses") or [{}])[0]
    count = old.get("restartCount", 0) + 1
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    if failure:
        state = {"waiting": {"reason": "ErrImagePull", "message": failure}}
    told = {
        "name": container["name"], "image": container["image"], "imageID": container["image"], "restartCount": count,
        "containerID": f"c://{count}", "ready": not failure, "state": state,
        "resources": container.get("resources", {}),
    }  # fmt: skip
    ready = [{"type": "Ready", "status": "False" if failure else "True"}]
    cluster.pod_status(name, containerStatuses=[told], conditions=ready)


def image_of(cluster, name):
    return cluster.server.objects[f"{PODS}/{name}"]["spec"]["containers"][0]["image"]


def taken(cluster):
    return [s["metadata"]["name"] for s in cluster.server.of("sandboxes") if "id" in str(s["metadata"]["labels"])]


async def pool(cluster, count=1):
    cluster.pool(count, template=TEMPLATE)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == count)
    for member in cluster.members():
        obey(cluster, member["metadata"]["name"])
    cluster.patch("sandboxsets", "ci", {"spec": {"scaleStrategy": {"maxUnavailable": 0}}})


async def test_a_running_sandbox_changes_its_image_again_and_again(cluster):
    """Editing spec.template twice changes the same pod twice; Ready says InplaceUpdating meanwhile; rollback works."""
    cluster.apply("sandboxes", "one", {"template": TEMPLATE})
    await cluster.until(lambda: condition(cluster, "one", "Ready")[0] == "True")
    obey(cluster, "one")
    uid = cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"]
    for image in ("two:1", "three:1", "one:1"):
        cluster.patch("sandboxes", "one", {"spec": {"template": with_container(image=image)}})
        await cluster.until(lambda: condition(cluster, "one", "Ready")[:2] == ("False", "InplaceUpdating"))
        assert condition(cluster, "one", "InplaceUpdate")[:2] == ("False", "InplaceUpdating")
        await cluster.until(lambda image=image: image_of(cluster, "one") == image)
        obey(cluster, "one")
        await cluster.until(lambda: condition(cluster, "one", "InplaceUpdate")[:2] == ("True", "Succeeded"))
        assert condition(cluster, "one", "Ready")[0] == "True"
    assert cluster.server.objects[f"{PODS}/one"]["metadata"]["uid"] == uid


async def test_a_failed_change_is_told_and_another_one_mends_it(cluster):
    """A pull error is in the condition and in an event, and the next image heals the sandbox."""
    cluster.apply("sandboxes", "one", {"template": TEMPLATE})
    await cluster.until(lambda: condition(cluster, "one", "Ready")[0] == "True")
    obey(cluster, "one")
    cluster.patch("sandboxes", "one", {"spec": {"template": with_container(image="bad:1")}})
    await cluster.until(lambda: image_of(cluster, "one") == "bad:1")
    obey(cluster, "one", failure="no such image bad:1")
    await cluster.until(lambda: condition(cluster, "one", "InplaceUpdate")[:2] == ("False", "Failed"))
    assert "no such image bad:1" in condition(cluster, "one", "InplaceUpdate")[2]
    await cluster.until(lambda: any(e["reason"] == "InplaceUpdateFailed" for e in cluster.server.of("events")))
    cluster.patch("sandboxes", "one", {"spec": {"template": TEMPLATE}})
    await cluster.until(lambda: image_of(cluster, "one") == "one:1")
    obey(cluster, "one")
    await cluster.until(lambda: condition(cluster, "one", "InplaceUpdate")[:2] == ("True", "Succeeded"))


async def test_what_no_running_pod_can_change_is_refused_in_words(cluster):
    """Another command is not carried out: condition Forbidden with what helps, an event, and both go when undone."""
    cluster.apply("sandboxes", "one", {"template": TEMPLATE})
    await cluster.until(lambda: condition(cluster, "one", "Ready")[0] == "True")
    cluster.patch("sandboxes", "one", {"spec": {"template": with_container(command=["x"])}})
    await cluster.until(lambda: condition(cluster, "one", "InplaceUpdate")[:2] == ("False", "Forbidden"))
    assert "Recreate" in condition(cluster, "one", "InplaceUpdate")[2]
    assert condition(cluster, "one", "Ready")[0] == "True"
    await cluster.until(lambda: any(e["reason"] == "InplaceUpdateForbidden" for e in cluster.server.of("events")))
    undone = json.loads(json.dumps(TEMPLATE)) | {}
    cluster.patch("sandboxes", "one", {"spec": {"template": None}})
    cluster.patch("sandboxes", "one", {"spec": {"template": undone}})
    await cluster.until(lambda: condition(cluster, "one", "InplaceUpdate") == ("", "", ""))


async def test_metadata_alone_disturbs_nobody(cluster):
    """New labels of the template reach the pod while the sandbox stays Ready."""
    cluster.apply("sandboxes", "one", {"template": TEMPLATE})
    await cluster.until(lambda: condition(cluster, "one", "Ready")[0] == "True")
    before = next(c for c in cluster.get("sandboxes", "one")["status"]["conditions"] if c["type"] == "Ready")
    cluster.patch("sandboxes", "one", {"spec": {"template": {"metadata": {"labels": {"app": "y"}}}}})
    await cluster.until(lambda: condition(cluster, "one", "InplaceUpdate")[:2] == ("True", "Succeeded"))
    assert cluster.server.objects[f"{PODS}/one"]["metadata"]["labels"]["app"] == "y"
    assert before in cluster.get("sandboxes", "one")["status"]["conditions"]


async def test_a_claim_with_another_image(cluster):
    """The claim takes a member, diverges its template, waits for the new container, and then initialises it."""
    await pool(cluster)
    (name,) = [member["metadata"]["name"] for member in cluster.members()]
    amounts = {"limits": {"cpu": "500m"}}
    cluster.apply(
        "sandboxclaims", "k",
        {"templateName": "ci", "envVars": {"A": "b"}, "inplaceUpdate": {"image": "two:1", "resources": amounts}},
    )  # fmt: skip
    await cluster.until(lambda: image_of(cluster, name) == "two:1")
    assert cluster.server.requests["patch", "pods/resize"] == 1
    await cluster.settle(20)
    assert cluster.get("sandboxclaims", "k").get("status", {}).get("claimedReplicas", 0) == 0
    obey(cluster, name)
    await cluster.until(lambda: cluster.get("sandboxclaims", "k")["status"]["phase"] == "Completed")
    found = cluster.get("sandboxes", name)
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "two:1" and "templateRef" not in found["spec"]
    assert cluster.get("sandboxclaims", "k")["status"]["claimedSandboxes"][0]["name"] == name
    path, _, body, token = cluster.runtime.calls[-1]
    assert (path, body["envVars"]["A"]) == ("/init", "b") and body["accessToken"] == token
    await cluster.until(lambda: condition(cluster, name, "RuntimeInitialized")[0] == "True")
    await cluster.settle(20)
    assert condition(cluster, name, "Restarted")[0] == "", "the container was replaced by request"
    obey(cluster, name)  # and now by itself
    await cluster.until(lambda: condition(cluster, name, "Restarted")[:2] == ("True", "ContainerEnded"))


async def test_a_claim_whose_image_cannot_be_pulled(cluster):
    """The claim completes with the pull error in words, uses up one sandbox, and leaves nothing behind."""
    await pool(cluster, 3)
    cluster.apply("sandboxclaims", "k", {"templateName": "ci", "inplaceUpdate": {"image": "bad:1"}})
    await cluster.until(lambda: any(image_of(cluster, m) == "bad:1" for m in taken(cluster)))
    (name,) = [m for m in taken(cluster) if image_of(cluster, m) == "bad:1"]
    obey(cluster, name, failure="pull access denied for bad:1")
    await cluster.until(lambda: cluster.get("sandboxclaims", "k")["status"]["phase"] == "Completed")
    status = cluster.get("sandboxclaims", "k")["status"]
    (said,) = [item for item in status["conditions"] if item["type"] == "Completed"]
    assert said["reason"] == "InplaceUpdateFailed" and "pull access denied for bad:1" in said["message"]
    assert status["claimedReplicas"] == 0
    await cluster.until(lambda: not any(s["metadata"]["name"] == name for s in cluster.server.of("sandboxes")))
    assert len(cluster.members()) == 2


async def test_a_claim_of_the_image_that_is_there_is_a_plain_claim(cluster):
    """Asking for the template's own image changes no pod and embeds no template."""
    await pool(cluster)
    cluster.apply("sandboxclaims", "k", {"templateName": "ci", "inplaceUpdate": {"image": "one:1"}})
    await cluster.until(lambda: cluster.get("sandboxclaims", "k")["status"]["phase"] == "Completed")
    (named,) = cluster.get("sandboxclaims", "k")["status"]["claimedSandboxes"]
    assert "template" not in cluster.get("sandboxes", named["name"])["spec"]
