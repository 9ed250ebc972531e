"""Pools, claims and in-place updates on each API server: what kubectl users of either see must be the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from clouds import Cloud, cloud

from appliance.api import conditions, kinds, labels
from appliance.api.structs import Sandbox, SandboxClaim, SandboxSet
from appliance.claims.request import ClaimRequest

WAIT = 60.0


def template(image: str = "one:1", cpu: str = "1") -> dict[str, Any]:
    amounts = {"cpu": cpu, "memory": "64Mi"}
    container = {"name": "sandbox", "image": image, "resources": {"limits": amounts, "requests": amounts}}
    env = [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}]
    return {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{**container, "env": env}]}}


async def pool(found: Cloud, namespace: str, name: str = "ci", replicas: int = 3, **spec: Any) -> None:
    body = {"metadata": {"name": name}, "spec": {"replicas": replicas, **spec}}
    await found.user.create(kinds.SANDBOXSET, namespace, body)
    await full(found, namespace, name, replicas)


async def full(found: Cloud, namespace: str, name: str, replicas: int) -> SandboxSet:
    def complete(item: SandboxSet | None) -> bool:
        status = item.status if item is not None else None
        return (
            item is not None
            and status is not None
            and status.observed_generation == item.meta.generation
            and status.available_replicas == status.updated_available_replicas == status.replicas == replicas
        )

    result = await found.world.sets.wait_for(namespace, name, complete, WAIT)
    assert result is not None
    return result


async def completed(found: Cloud, namespace: str, name: str, **spec: Any) -> SandboxClaim:
    body = {"metadata": {"name": name}, "spec": {"templateName": "ci", **spec}}
    await found.user.create(kinds.SANDBOXCLAIM, namespace, body)

    def done(item: SandboxClaim | None) -> bool:
        return item is not None and item.status.phase == "Completed"

    result = await found.world.claims.wait_for(namespace, name, done, WAIT)
    assert result is not None
    return result


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT):
        while not holds():
            await asyncio.sleep(0.01)


def claimed(found: Cloud, namespace: str) -> set[str]:
    of_here = [item for item in found.world.sandboxes.items() if item.namespace == namespace]
    return {item.name for item in of_here if item.meta.labels.get(labels.CLAIMED) == "true"}


async def test_scale_and_rolling_update_leave_claimed_sandboxes_alone(apiserver: Any, namespace: str) -> None:
    """A pool grows, shrinks and takes a new template; what was claimed before keeps its object, pod and revision."""
    async with cloud(apiserver, namespace) as found:
        await pool(found, namespace, template=template())
        taken = (await completed(found, namespace, "k")).status.claimed_sandboxes[0].name
        before = found.world.sandboxes.get(namespace, taken)
        assert before is not None
        for replicas in (5, 2):
            await found.user.patch(kinds.SANDBOXSET, namespace, "ci", {"spec": {"replicas": replicas}})
            await full(found, namespace, "ci", replicas)
        old = (await full(found, namespace, "ci", 2)).status.update_revision
        await found.user.patch(kinds.SANDBOXSET, namespace, "ci", {"spec": {"template": template("two:1")}})
        await until(lambda: (found.world.sets.get(namespace, "ci") or SandboxSet()).status.update_revision != old)
        await full(found, namespace, "ci", 2)
        after = found.world.sandboxes.get(namespace, taken)
        assert after is not None and after.uid == before.uid
        assert after.meta.labels[labels.TEMPLATE_HASH] == old
        assert after.status.pod_info.pod_uid == before.status.pod_info.pod_uid


async def test_a_set_that_refers_to_a_template_of_another_name(apiserver: Any, namespace: str) -> None:
    """Claims by the set's name, of either kind, are served from its warm pool and not made anew."""
    async with cloud(apiserver, namespace) as found:
        body = {"metadata": {"name": "other-name"}, "spec": {"template": template(), "pauseStrategy": {"type": "Stop"}}}
        await found.user.create(kinds.SANDBOXTEMPLATE, namespace, body)
        await pool(found, namespace, templateRef={"name": "other-name"})
        await until(lambda: found.engine.stock(namespace, "ci") == 3)
        one = await found.engine.claim(ClaimRequest(namespace=namespace, template="ci", owner="me"))
        assert one.how == "pool"
        two = await completed(found, namespace, "k")
        name = two.status.claimed_sandboxes[0].name
        made = found.world.sandboxes.get(namespace, name)
        assert made is not None and labels.PRIORITY not in made.meta.annotations
        await found.user.patch(kinds.SANDBOX, namespace, name, {"spec": {"paused": True}})

        def stopped(item: Sandbox | None) -> bool:
            said = conditions.find(item.status.conditions, conditions.SANDBOX_PAUSED) if item is not None else None
            return said is not None and said.reason == "StopPauseSucceed"

        await found.world.sandboxes.wait_for(namespace, name, stopped, WAIT)


async def test_a_claimed_sandbox_is_small(apiserver: Any, namespace: str) -> None:
    """The claim's write drops who set which field, later writes bring none back, and server-side apply goes on."""
    async with cloud(apiserver, namespace) as found:
        await pool(found, namespace, replicas=1, template=template())
        claimed = await found.engine.claim(ClaimRequest(namespace=namespace, template="ci", owner="me"))
        name = claimed.sandbox.name
        await found.user.patch(kinds.SANDBOX, namespace, name, {"metadata": {"labels": {"later": "yes"}}})
        raw = await found.user.get(kinds.SANDBOX, namespace, name, type=dict[str, Any])
        assert raw["metadata"].get("managedFields") is None and raw["metadata"]["labels"]["later"] == "yes"
        body = {"metadata": {"name": name, "labels": {"mine": "yes"}}}
        await found.user.apply(kinds.SANDBOX, namespace, name, body, manager="somebody", force=False)
        raw = await found.user.get(kinds.SANDBOX, namespace, name, type=dict[str, Any])
        assert (raw["metadata"]["labels"]["mine"], raw["metadata"]["labels"][labels.CLAIMED]) == ("yes", "true")


async def test_one_template_in_two_namespaces(apiserver: Any, namespace: str) -> None:
    """Claims that name no namespace drain both pools before anything is made."""
    other = f"{namespace}-b"
    await asyncio.to_thread(
        apiserver.request, "POST", "/api/v1/namespaces",
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": other}},
    )  # fmt: skip
    name = f"t-{namespace}"
    async with cloud(apiserver) as found:
        frozen = {"scaleStrategy": {"maxUnavailable": 0}}
        for place in (namespace, other):
            await pool(found, place, name, template=template())
            await found.user.patch(kinds.SANDBOXSET, place, name, {"spec": frozen})
            await until(lambda place=place: found.engine.stock(place, name) == 3)  # type: ignore[misc]
        request = ClaimRequest(namespace=None, template=name, owner="me", create_on_no_stock=False)
        got = await asyncio.gather(*(found.engine.claim(request) for _ in range(6)))
        assert {item.how for item in got} == {"pool"}
        assert sorted(item.sandbox.namespace for item in got) == sorted([namespace] * 3 + [other] * 3)


async def test_in_place_updates_by_claims_and_by_hand(apiserver: Any, namespace: str) -> None:
    """Image and resources by a claim, then both again by editing the Sandbox: the pod stays, the conditions tell."""
    async with cloud(apiserver, namespace) as found:
        await pool(found, namespace, template=template())
        amounts = {"limits": {"cpu": "500m", "memory": "128Mi"}}
        claim = await completed(found, namespace, "k", inplaceUpdate={"image": "two:1", "resources": amounts})
        (taken,) = claim.status.claimed_sandboxes
        pod = found.world.pods.get(namespace, taken.name)
        assert pod is not None and pod.spec.containers[0]["image"] == "two:1"
        assert pod.spec.containers[0]["resources"]["limits"] == {"cpu": "500m", "memory": "128Mi"}
        wanted = {"spec": {"template": template("three:1", "2")}}
        edited = await found.user.patch(kinds.SANDBOX, namespace, taken.name, wanted)

        def upgraded(item: Sandbox | None) -> bool:
            assert item is not None
            done = conditions.is_true(item.status.conditions, conditions.INPLACE_UPDATE)
            return done and item.status.observed_generation >= edited.meta.generation

        await until(lambda: upgraded(found.world.sandboxes.get(namespace, taken.name)))
        after = found.world.pods.get(namespace, taken.name)
        assert after is not None and after.uid == pod.uid
        assert after.spec.containers[0]["image"] == "three:1"
        assert after.spec.containers[0]["resources"]["requests"]["cpu"] == "2"


async def test_what_cannot_be_updated_is_said_in_the_servers_words(apiserver: Any, namespace: str) -> None:
    """A pull error and a change of the quality of service end their claims in words, and leave no claimed sandbox."""
    async with cloud(apiserver, namespace) as found:
        await pool(found, namespace, template=template())
        bad = await completed(found, namespace, "image", inplaceUpdate={"image": "bad:1"})
        assert "pull access denied for bad:1" in bad.status.message
        amounts = {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}
        class_of = await completed(found, namespace, "class", inplaceUpdate={"resources": amounts})
        assert "Pod QOS Class may not change as a result of resizing" in class_of.status.message
        await until(lambda: not claimed(found, namespace))
        await full(found, namespace, "ci", 3)
