"""Blocked and banned teams: who is refused what, in which words, and who may change it."""

from typing import Any

import pytest

from appliance.api.kinds import SECRET
from appliance.manager.keys import standing
from appliance.manager.keys.standing import Standing


async def _member(world: Any, team: str) -> str:
    answer = await world.call("POST", "/api-keys", json={"name": "n", "teamName": team})
    return str((await answer.get_json())["key"])


async def _refused(world: Any, key: str, method: str, path: str, **body: Any) -> str:
    answer = await world.call(method, path, key=key, json=body)
    told = await answer.get_json()
    assert (answer.status_code, told["code"]) == (403, 403), (method, path, told)
    return str(told["message"])


async def test_a_blocked_team_may_look_and_take_down_but_not_start(world: Any) -> None:
    """It lists, reads and deletes; create, connect and pause are 403 with the reason, until it is opened again."""
    await world.add_pool("python", 1, namespace="other", ip="10.1.0.")
    key = await _member(world, "other")
    path = "/sandboxes/" + (await world.create(key=key))["sandboxID"]
    answer = await world.call("PATCH", "/teams/other", json={"blocked": "no payment"})
    assert await answer.get_json() == {"teamID": "other", "blocked": "no payment", "banned": False}
    for where in ("/sandboxes", "/v2/sandboxes", f"{path}/connect", f"{path}/pause", f"{path}/timeout"):
        assert await _refused(world, key, "POST", where, timeout=5) == "team is blocked: no payment"
    for where in ("/v2/sandboxes", path, "/templates", f"/v2{path}/logs"):
        assert (await world.call("GET", where, key=key)).status_code == 200, where
    assert (await world.call("DELETE", path, key=key)).status_code == 204
    await world.call("PATCH", "/teams/other", json={"blocked": None})
    await world.add_pool("more", 1, namespace="other", ip="10.2.0.")
    await world.create(key=key, templateID="more")
    assert "team.other" not in world.cluster.objects["secrets", "sandbox-system", "e2b-key-store"]["data"]


async def test_a_banned_team_may_do_nothing(world: Any) -> None:
    """Every request is 403; what the other field says stays; other teams and admins are not touched."""
    key = await _member(world, "other")
    await world.call("PATCH", "/teams/other", json={"blocked": "why"})
    await world.call("PATCH", "/teams/other", json={"banned": True})
    for method, path in (("GET", "/v2/sandboxes"), ("POST", "/v2/sandboxes"), ("DELETE", "/sandboxes/ix")):
        assert await _refused(world, key, method, path) == "team is banned"
    await world.call("PATCH", "/teams/other", json={"banned": False})
    assert await _refused(world, key, "POST", "/v2/sandboxes") == "team is blocked: why"
    await world.create()
    acting = {"X-Team-ID": "other"}
    assert (await world.call("POST", "/v2/sandboxes", headers=acting, json={"templateID": "python"})).status_code == 403


async def test_only_an_admin_changes_a_teams_standing_and_his_own_does_not_hold_him_up(world: Any) -> None:
    """A plain key is 403, an unknown team 404, a wrong field 400 by name; an admin of a banned team lifts the ban."""
    plain = await _member(world, "default")
    assert "admin key" in await _refused(world, plain, "PATCH", "/teams/default", blocked="x")
    assert (await world.call("PATCH", "/teams/nowhere", json={"banned": True})).status_code == 404
    for body in ({"blocked": ""}, {"banned": "yes"}, {"blockd": "x"}):
        answer = await world.call("PATCH", "/teams/other", json=body)
        assert answer.status_code == 400 and next(iter(body)) in (await answer.get_json())["message"]
    assert (await world.call("PATCH", "/teams/default", json={"banned": True})).status_code == 200
    assert await _refused(world, plain, "GET", "/teams") == "team is banned"
    assert (await world.call("PATCH", "/teams/default", json={"banned": False})).status_code == 200
    assert (await world.call("GET", "/teams", key=plain)).status_code == 200


async def test_traffic_does_not_wake_sandboxes_of_a_blocked_team(world: Any) -> None:
    """Auto-resume would be a way around the block; opened again, traffic wakes it."""
    sandbox_id = (await world.create(autoPause=True, autoResume={"enabled": True}))["sandboxID"]
    await world.call("POST", f"/sandboxes/{sandbox_id}/pause")
    await world.call("PATCH", "/teams/default", json={"blocked": "x"})
    assert await world.routes.wake(sandbox_id) is False
    await world.call("PATCH", "/teams/default", json={"blocked": None})
    assert await world.routes.wake(sandbox_id) is True


@pytest.mark.parametrize("broken", ["%%%", "e30x"])
async def test_an_unreadable_entry_bans(world: Any, broken: str) -> None:
    """A standing that somebody broke is not taken for an open door, and keys beside it go on working."""
    world.cluster.change(SECRET, "sandbox-system", "e2b-key-store", {"data": {"team.other": broken}})
    assert world.keys.standing("other") == Standing(banned=True)
    assert (await world.call("GET", "/teams")).status_code == 200


def test_an_open_team_has_no_entry() -> None:
    """Encoding and decoding are inverse, and an open standing is none."""
    assert standing.encode(Standing()) is None
    for one in (Standing(blocked="ü"), Standing(banned=True), Standing("r", banned=True)):
        assert standing.decode(standing.encode(one) or "") == one
