"""What another manager did a moment ago: asked for, not waited for."""

from __future__ import annotations

import copy
from typing import Any

from appliance.api.kinds import SANDBOX
from appliance.api.labels import SANDBOX_ID
from appliance.gateway.routes import Refusal, Route

PORT = 49983
OTHER = "izzzzzzzzzzzzzzzzzzzz"


async def test_a_sandbox_of_another_manager_is_routed_once_asked_for(world: Any) -> None:
    """It is in the cluster and not in the cache yet."""
    made = (await world.create())["sandboxID"]
    body = copy.deepcopy(world.stored(made))
    body["metadata"] |= {"name": "elsewhere", "uid": "elsewhere", "resourceVersion": "99999"}
    body["metadata"]["labels"][SANDBOX_ID] = OTHER
    world.cluster.objects[SANDBOX.plural, "default", "elsewhere"] = body
    assert world.routes.resolve(OTHER, PORT) is Refusal.NOT_FOUND
    await world.routes.refresh(OTHER)
    assert isinstance(world.routes.resolve(OTHER, PORT), Route)


async def test_a_sandbox_that_another_manager_killed_is_gone_once_asked_for(world: Any) -> None:
    """It is in the cache and not in the cluster any more."""
    made = (await world.create())["sandboxID"]
    name = world.stored(made)["metadata"]["name"]
    await world.routes.refresh(made)
    assert isinstance(world.routes.resolve(made, PORT), Route)
    world.cluster.objects.pop((SANDBOX.plural, "default", name))
    assert isinstance(world.routes.resolve(made, PORT), Route)
    await world.routes.refresh(made)
    assert world.routes.resolve(made, PORT) is Refusal.NOT_FOUND
