"""SandboxSets at work on an API server in memory."""

from __future__ import annotations

from appliance.api import labels


async def test_refill_costs_three_writes_a_member(cluster):
    """A pool of fifty becomes available with one creation, one pod and one status patch per member."""
    cluster.pool(50)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 50)
    await cluster.settle()
    writes = cluster.server.writes("sandboxes", "pods", "sandboxes/status", "sandboxtemplates")
    assert dict(writes) == {
        ("create", "sandboxes"): 50,
        ("create", "pods"): 50,
        ("patch", "sandboxes/status"): 50,
        ("create", "sandboxtemplates"): 1,
    }
    assert cluster.server.writes("sandboxsets/status")["patch", "sandboxsets/status"] <= 3


async def test_members_refer_to_their_revision(cluster):
    """Members embed no template, carry the set's name as template, and their pod starts the runtime."""
    cluster.pool(1)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 1)
    (member,) = cluster.members()
    status = cluster.status()
    assert member["spec"]["templateRef"]["name"] == status["currentRevision"] == f"ci-{status['updateRevision']}"
    assert "template" not in member["spec"]
    assert member["metadata"]["labels"][labels.TEMPLATE] == "ci"
    (pod,) = cluster.server.of("pods")
    hook = pod["spec"]["containers"][0]["lifecycle"]["postStart"]["exec"]["command"]
    assert hook == ["/mnt/r/appliance-runtime", "start"]
    assert pod["spec"]["automountServiceAccountToken"] is False


async def test_lost_answers_never_make_too_many(cluster, lost_answers):
    """With every seventh answer lost, the pool ends at its size and never had a member more."""
    lost_answers(cluster.server, 7)
    cluster.pool(40)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 40, timeout=20)
    assert len(cluster.members()) == 40
    assert cluster.server.requests["create", "sandboxes"] - len(cluster.members()) <= 40
    assert (
        len({item["metadata"]["uid"] for item in cluster.server.seen if item.get("spec", {}).get("templateRef")}) == 40
    )


async def test_scale_down_deletes_exactly_the_surplus(cluster):
    """Scaling from ten to three leaves three, with their pods, and no lock on any."""
    cluster.pool(10)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 10)
    cluster.patch("sandboxsets", "ci", {"spec": {"replicas": 3}})
    await cluster.until(lambda: cluster.status()["replicas"] == 3)
    await cluster.settle()
    assert len(cluster.members()) == len(cluster.server.of("pods")) == 3


async def test_scale_down_never_takes_a_claimed_one(cluster):
    """A member claimed at the moment of its deletion survives: the guarded deletion loses."""
    cluster.pool(3)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 3)
    taken = []

    async def claim_first(verb, path, do):
        if verb == "delete" and not taken:
            taken.append(path)
            patch = {"metadata": {"ownerReferences": [], "labels": {labels.CLAIMED: "true"}}}
            cluster.server.patch(path, patch)
        return do()

    cluster.server.trouble = claim_first
    cluster.patch("sandboxsets", "ci", {"spec": {"replicas": 0}})
    await cluster.until(lambda: cluster.status()["replicas"] == 0)
    assert [f"{path}" for path in taken] == [path for path in cluster.server.objects if "/sandboxes/" in path]


async def test_dead_members_are_replaced(cluster):
    """A member whose pod fails is deleted and replaced."""
    cluster.pool(2)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 2)
    cluster.pass_time(seconds=300)
    victim = cluster.members()[0]["metadata"]["name"]
    cluster.pod_status(victim, phase="Failed", reason="Evicted")
    await cluster.until(lambda: victim not in [item["metadata"]["name"] for item in cluster.members()])
    await cluster.until(lambda: len(cluster.members()) == 2)


async def test_rolling_update_respects_the_budget(cluster):
    """A new template replaces all members, never with more than maxUnavailable missing."""
    cluster.pool(10, updateStrategy={"maxUnavailable": 2})
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 10)
    first = cluster.status()["updateRevision"]
    lowest = [10]

    def available():
        ready = sum(1 for item in cluster.members() if item.get("status", {}).get("phase") == "Running")
        lowest.append(ready)
        status = cluster.status()
        return status["updateRevision"] != first and status["updatedAvailableReplicas"] == 10

    cluster.patch("sandboxsets", "ci", {"spec": {"template": {"metadata": {"labels": {"v": "2"}}}}})
    await cluster.until(available)
    assert min(lowest) >= 8
    assert {item["metadata"]["labels"]["v"] for item in cluster.members()} == {"2"}


async def test_revisions_are_collected(cluster):
    """Of fifteen revisions nobody uses, ten stay; after the set is deleted, none."""
    cluster.pool(0)

    def caught_up():
        generation = cluster.get("sandboxsets", "ci")["metadata"]["generation"]
        return cluster.status()["observedGeneration"] == generation

    for number in range(15):
        cluster.patch("sandboxsets", "ci", {"spec": {"template": {"metadata": {"labels": {"v": str(number)}}}}})
        await cluster.until(caught_up)
    await cluster.until(lambda: len(cluster.server.of("sandboxtemplates")) == 10)
    cluster.delete("sandboxsets", "ci")
    await cluster.until(lambda: not cluster.server.of("sandboxtemplates"))


async def test_a_revision_in_use_outlives_its_set(cluster):
    """A claimed sandbox keeps its SandboxTemplate after the set is gone, until it is gone itself."""
    cluster.pool(1)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 1)
    name = cluster.members()[0]["metadata"]["name"]
    cluster.patch("sandboxes", name, {"metadata": {"ownerReferences": [], "labels": {labels.CLAIMED: "true"}}})
    cluster.delete("sandboxsets", "ci")
    await cluster.settle(50)
    assert len(cluster.server.of("sandboxtemplates")) == 1
    cluster.delete("sandboxes", name)
    await cluster.until(lambda: not cluster.server.of("sandboxtemplates"))


async def test_a_set_without_template_says_so(cluster):
    """A templateRef that names nothing becomes a condition, and the pool fills as soon as the template appears."""
    cluster.apply("sandboxsets", "ci", {"replicas": 1, "templateRef": {"name": "later"}})
    await cluster.until(lambda: "later" in cluster.status()["conditions"][0]["message"])
    cluster.apply("sandboxtemplates", "later", {"template": {"spec": {"containers": [{"name": "a"}]}}})
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 1)
    assert cluster.status()["conditions"] == []
    assert cluster.members()[0]["metadata"]["labels"][labels.TEMPLATE] == "ci"


async def test_restart_goes_on_where_it_was(cluster):
    """A controller that stops in the middle of a refill is continued by the next without a member too many."""
    cluster.pool(60)
    await cluster.until(lambda: len(cluster.members()) >= 16)
    await cluster.stop()
    cluster.renew()
    await cluster.start()
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 60)
    assert len(cluster.members()) == 60


async def test_a_burst_of_claims_is_refilled_when_it_is_over(cluster):
    """Claims that come close together do not compete with the refill, and the pool is full again afterwards."""
    cluster.pool(30)
    await cluster.until(lambda: cluster.status()["availableReplicas"] == 30)
    await cluster.settle()
    for member in cluster.members()[:12]:
        patch = {"metadata": {"labels": {labels.CLAIMED: "true"}, "ownerReferences": []}}
        cluster.patch("sandboxes", member["metadata"]["name"], patch)
    await cluster.until(
        lambda: len(cluster.server.of("sandboxes")) == 42 and cluster.status()["availableReplicas"] == 30
    )
