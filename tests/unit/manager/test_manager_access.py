"""Keys, teams, and what one team sees of another: nothing."""

import asyncio
from typing import Any

import pytest

from appliance.api.ids import hash_api_key
from appliance.manager.keys import compat


async def _member(world: Any, team: str) -> str:
    """A plain key of a team."""
    answer = await world.call("POST", "/api-keys", json={"name": "n", "teamName": team})
    assert answer.status_code == 201
    return str((await answer.get_json())["key"])


async def test_no_key_and_a_wrong_one_are_401(world: Any) -> None:
    """Both answer JSON with code 401; a Bearer token is as good as X-API-Key; health needs none."""
    for headers in ({}, {"X-API-Key": "e2b_00"}, {"Authorization": "Bearer nope"}, {"Authorization": "Basic eA=="}):
        answer = await world.call("GET", "/v2/sandboxes", key="", headers=headers)
        assert answer.status_code == 401 and (await answer.get_json())["code"] == 401
    bearer = {"Authorization": f"Bearer {world.key}"}
    assert (await world.call("GET", "/v2/sandboxes", key="", headers=bearer)).status_code == 200
    answer = await world.call("GET", "/health", key="")
    assert answer.status_code == 200 and await answer.get_data() == b"Health check successful"


async def test_another_teams_sandbox_does_not_exist(world: Any) -> None:
    """Every operation on it is 404, it is in no list, and its template cannot be used; an admin sees it."""
    await world.add_pool("python", 1, namespace="other", ip="10.1.0.")
    mine, theirs = await _member(world, "default"), await _member(world, "other")
    sandbox_id = (await world.create(key=mine))["sandboxID"]
    path = f"/sandboxes/{sandbox_id}"
    calls = [("GET", path), ("DELETE", path), ("POST", f"{path}/pause"), ("POST", f"{path}/connect")]
    calls += [("PUT", f"{path}/network"), ("POST", f"{path}/fork"), ("GET", f"{path}/metrics")]
    for method, where in calls:
        answer = await world.call(method, where, key=theirs, json={"timeout": 5} if method == "POST" else None)
        assert answer.status_code == 404, (method, where)
    assert await (await world.call("GET", "/v2/sandboxes", key=theirs)).get_json() == []
    assert len(await (await world.call("GET", "/v2/sandboxes", key=mine)).get_json()) == 1
    assert (await world.call("GET", path)).status_code == 200
    taken = await world.create(key=theirs)
    assert world.stored(taken["sandboxID"])["metadata"]["namespace"] == "other"
    for method, where, status in (
        ("POST", "/v2/sandboxes", 403),
        ("GET", "/templates/aliases/default%2Fpython", 403),
        ("PATCH", "/v2/templates/default%2Fpython", 403),
        ("DELETE", "/templates/default%2Fpython", 404),
        ("GET", "/templates/aliases/default%2Fnothing", 404),
    ):
        body = {"templateID": "default/python"} if method == "POST" else {}
        assert (await world.call(method, where, key=theirs, json=body)).status_code == status, where


async def test_keys_are_stored_hashed_and_die_when_deleted(world: Any) -> None:
    """The key is shown once; the Secret holds a hash; after its deletion it is refused."""
    key = await _member(world, "default")
    listed = await (await world.call("GET", "/api-keys", key=key)).get_json()
    assert [one["admin"] for one in listed] == [True, False] and "key" not in listed[1]
    stored = world.cluster.objects["secrets", "sandbox-system", "e2b-key-store"]["data"]
    assert key not in str(stored) and len(stored) == 2
    assert world.keys.authenticate(key).hash == hash_api_key(key)
    assert (await world.call("DELETE", f"/api-keys/{listed[1]['id']}")).status_code == 204
    assert (await world.call("GET", "/teams", key=key)).status_code == 401


async def test_rights(world: Any) -> None:
    """A plain key makes keys of its own team only and cannot delete an admin's; the last admin key stays."""
    key = await _member(world, "default")
    answer = await world.call("POST", "/api-keys", key=key, json={"name": "x", "teamName": "other"})
    assert answer.status_code == 403
    admin = (await (await world.call("GET", "/api-keys")).get_json())[0]["id"]
    assert (await world.call("DELETE", f"/api-keys/{admin}", key=key)).status_code == 403
    assert (await world.call("DELETE", f"/api-keys/{admin}")).status_code == 403
    assert (await world.call("DELETE", "/api-keys/nothing")).status_code == 404
    answer = await world.call("POST", "/api-keys", json={"name": "x", "teamName": "nowhere"})
    assert answer.status_code == 400 and "teamName" in (await answer.get_json())["message"]
    assert (await world.call("POST", "/api-keys", json={"name": "x", "quota": 1})).status_code == 400
    assert (await world.call("POST", "/api-keys", json={})).status_code == 400


async def test_teams_and_the_compatible_key(world: Any) -> None:
    """The CLI finds its team; a key that has E2B's shape is compatible as it is."""
    team = (await (await world.call("GET", "/teams")).get_json())[0]
    assert team == {"teamID": "default", "name": "default", "apiKey": world.key, "isDefault": True}
    assert await (await world.call("GET", "/api-keys/compatible")).get_json() == {"key": world.key}


@pytest.mark.parametrize("key", ["some-api-key", "ключ", "x" * 300])
def test_compatible_encoding_round_trip(key: str) -> None:
    """Any key has an E2B-shaped spelling that means the same; a damaged one means nothing else."""
    encoded = compat.encode(key)
    assert encoded.startswith("e2b_6f6b6167") and compat.decode(encoded) == key
    assert compat.decode(encoded[:-1] + ("0" if encoded[-1] != "0" else "1")) != key
    assert compat.decode("e2b_6f6b616701zz") == "e2b_6f6b616701zz"


async def test_adopting_a_key_twice_makes_one(world: Any, tmp_path: Any) -> None:
    """Replicas that start together from the same file agree on one record."""
    file = tmp_path / "again"
    file.write_text("some-api-key")
    await asyncio.gather(*(world.keys.adopt(file, name="initial", team="default") for _ in range(2)))
    assert len(world.cluster.objects["secrets", "sandbox-system", "e2b-key-store"]["data"]) == 2
    assert world.keys.authenticate(compat.encode("some-api-key")).admin
    file.write_text(" \n")
    with pytest.raises(ValueError, match="initial_key_file"):
        await world.keys.adopt(file, name="initial", team="default")


async def test_a_key_made_elsewhere_works_at_once_and_rubbish_is_ignored(world: Any) -> None:
    """The store follows the Secret: entries that are no key records are skipped."""
    from appliance.api.kinds import SECRET

    world.cluster.change(SECRET, "sandbox-system", "e2b-key-store", {"data": {"bad": "!!", "worse": "e30="}})
    assert (await world.call("GET", "/teams")).status_code == 200
    world.cluster.remove(SECRET, "sandbox-system", "e2b-key-store")
    assert (await world.call("GET", "/teams")).status_code == 401


async def test_a_key_is_renamed(world: Any) -> None:
    """PATCH changes the name, for its own team only, an admin key by admins only; anything else in the body is 400."""
    mine, theirs = await _member(world, "default"), await _member(world, "other")
    admin, own = await (await world.call("GET", "/api-keys", key=mine)).get_json()
    answer = await world.call("PATCH", f"/api-keys/{own['id']}", key=mine, json={"name": "ci"})
    assert answer.status_code == 200 and (await answer.get_json())["name"] == "ci"
    assert world.keys.authenticate(mine).name == "ci"
    for key, key_id, body, status in (
        (theirs, own["id"], {"name": "x"}, 404),
        (mine, admin["id"], {"name": "x"}, 403),
        (mine, own["id"], {"name": ""}, 400),
        (mine, own["id"], {"name": "x", "admin": True}, 400),
    ):
        assert (await world.call("PATCH", f"/api-keys/{key_id}", key=key, json=body)).status_code == status


async def test_an_admin_token_acts_for_the_team_it_names(world: Any) -> None:
    """X-Admin-Token wants an admin key; with X-Team-ID it is confined to that team, and other keys to their own."""
    await world.add_pool("python", 1, namespace="other", ip="10.1.0.")
    member = await _member(world, "default")
    acting = {"X-Admin-Token": world.key, "X-Team-ID": "other"}
    made = await world.call("POST", "/v2/sandboxes", key="", headers=acting, json={"templateID": "python"})
    assert made.status_code == 201
    sandbox_id = (await made.get_json())["sandboxID"]
    assert world.stored(sandbox_id)["metadata"]["namespace"] == "other"
    mine = (await world.create())["sandboxID"]
    listed = await (await world.call("GET", "/v2/sandboxes", key="", headers=acting)).get_json()
    assert [one["sandboxID"] for one in listed] == [sandbox_id]
    assert (await world.call("GET", f"/sandboxes/{mine}", key="", headers=acting)).status_code == 404
    for headers, status in (
        ({"X-Admin-Token": member}, 401),
        ({"X-Admin-Token": "e2b_00"}, 401),
        ({"X-API-Key": member, "X-Team-ID": "other"}, 403),
        ({"X-API-Key": member, "X-Team-ID": "default"}, 200),
    ):
        answer = await world.call("GET", "/v2/sandboxes", key="", headers=headers)
        assert answer.status_code == status, headers
