"""Create, read, list and kill through the API."""

import itertools
from typing import Any

from appliance.api import labels
from appliance.api.kinds import NODE
from appliance.kube import errors
from appliance.manager.abilities import REMEMBERED, Abilities


async def test_a_create_takes_a_warm_sandbox_and_the_next_request_finds_it(world: Any) -> None:
    """v2 create answers 201 with id, token and version, and GET right after shows the sandbox running."""
    made = await world.create(metadata={"a b": "c&d", "team/x": "1"}, envVars={"X": "1"}, timeout=60)
    assert made["sandboxID"].startswith("i") and len(made["sandboxID"]) == 21
    assert made["envdVersion"] == labels.ENVD_VERSION and made["templateID"] == made["alias"] == "python"
    assert len(made["envdAccessToken"]) == 64 and made["trafficAccessToken"] is None
    answer = await world.call("GET", f"/sandboxes/{made['sandboxID']}")
    assert answer.status_code == 200
    detail = await answer.get_json()
    assert detail["state"] == "running" and detail["metadata"] == {"a b": "c&d", "team/x": "1"}
    assert (detail["cpuCount"], detail["memoryMB"], detail["diskSizeMB"]) == (2, 1024, 10240)
    assert detail["lifecycle"] == {"autoResume": False, "onTimeout": "kill"}
    assert world.runtime.inits[0][1]["envVars"]["X"] == "1"
    assert world.stored(made["sandboxID"])["metadata"]["annotations"]["team/x"] == "1"


async def test_a_disk_that_the_template_leaves_to_the_node_is_told(world: Any) -> None:
    """Sandboxes, lists and templates tell the layer that the nodes give; 0 where no node says so, or it is no size."""
    await world.add_pool("plain", 1, ip="10.3.0.", disk=None)
    made = await world.create(templateID="plain")
    sizer, abilities = world.wired.sizer, Abilities(world.cluster, clock=itertools.count(0, REMEMBERED + 1).__next__)

    async def told() -> set[int]:
        await sizer.measure(abilities.sandbox_disk)
        one = await (await world.call("GET", f"/sandboxes/{made['sandboxID']}")).get_json()
        many = await (await world.call("GET", "/v2/sandboxes?template=plain")).get_json()
        template = await (await world.call("GET", "/templates/plain")).get_json()
        return {one["diskSizeMB"], many[0]["diskSizeMB"], template["diskSizeMB"]}

    assert await told() == {0}
    node = {"metadata": {"name": "limits", "labels": {labels.NODE_SANDBOX_DISK: "512Mi"}}}
    await world.cluster.create(NODE, None, node)
    assert await told() == {512}
    world.cluster.fail = lambda verb, plural: errors.Unreachable("down") if plural == "nodes" else None
    assert await told() == {512}
    world.cluster.fail = lambda verb, plural: None
    node["metadata"]["labels"][labels.NODE_SANDBOX_DISK] = "much"  # type: ignore[index]
    world.cluster.objects["nodes", "", "limits"] = node
    assert await told() == {0}
    limited = await (await world.call("GET", "/templates/python")).get_json()
    assert limited["diskSizeMB"] == 10240


async def test_a_killed_sandbox_is_gone_at_once(world: Any) -> None:
    """After the 204 of a kill GET answers 404, its route is refused and its connections are reset."""
    sandbox_id = (await world.create())["sandboxID"]
    assert (await world.call("DELETE", f"/sandboxes/{sandbox_id}")).status_code == 204
    answer = await world.call("GET", f"/sandboxes/{sandbox_id}")
    assert answer.status_code == 404
    body = await answer.get_json()
    assert body["code"] == 404 and "doesn't exist or you don't have access to it" in body["message"]
    assert world.routes.resolve(sandbox_id, 49983).name == "NOT_FOUND"
    assert sandbox_id in world.gateway.resets
    assert (await world.call("DELETE", f"/sandboxes/{sandbox_id}")).status_code == 404
