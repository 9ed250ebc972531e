"""Templates beyond the list: deletion, the public flag, default names, and the tag resources of the 2.63 schema."""

from datetime import timedelta
from typing import Any

import pytest
from e2b.api.client.models.template_tag_assignments_response import TemplateTagAssignmentsResponse
from e2b.api.client.models.template_tag_groups_response import TemplateTagGroupsResponse
from e2b.api.client.models.template_with_builds import TemplateWithBuilds


async def _get(world: Any, path: str) -> Any:
    answer = await world.call("GET", path)
    assert answer.status_code == 200, await answer.get_data(as_text=True)
    return await answer.get_json()


async def test_a_template_in_use_stays(world: Any) -> None:
    """400 while a sandbox of it runs or is paused, 204 once none does, 404 after that."""
    sandbox = (await world.create())["sandboxID"]
    for _ in range(2):
        answer = await world.call("DELETE", "/templates/python")
        assert answer.status_code == 400
        assert "there are 1 sandbox using it" in (await answer.get_json())["message"]
        await world.call("POST", f"/sandboxes/{sandbox}/pause")
    assert (await world.call("DELETE", f"/sandboxes/{sandbox}")).status_code == 204
    assert (await world.call("DELETE", "/templates/default%2Fpython")).status_code == 204
    assert ("sandboxsets", "default", "python") not in world.cluster.objects
    assert (await world.call("DELETE", "/templates/python")).status_code == 404
    assert (await world.call("POST", "/v2/sandboxes", json={"templateID": "python"})).status_code == 404


async def test_the_public_flag_is_what_it_is_or_refused(world: Any) -> None:
    """public false is granted, true is a 400 that names it; another team's template is 404."""
    answer = await world.call("PATCH", "/v2/templates/python", json={"public": False})
    assert (answer.status_code, await answer.get_json()) == (200, {"names": ["default/python"]})
    answer = await world.call("PATCH", "/templates/python", json={})
    assert (answer.status_code, await answer.get_json()) == (200, {})
    for path in ("/v2/templates/python", "/templates/python"):
        answer = await world.call("PATCH", path, json={"public": True})
        assert answer.status_code == 400 and "public: true" in (await answer.get_json())["message"]
    answer = await world.call("PATCH", "/v2/templates/python", json={"public": "yes"})
    assert (await answer.get_json())["message"].startswith("validation error: public")
    assert (await world.call("PATCH", "/v2/templates/nothing", json={})).status_code == 404


async def test_the_names_that_clients_use_by_themselves(world: Any) -> None:
    """base and code-interpreter-v1 mean the default pool, which alone is a default template."""
    assert await _get(world, "/default-templates") == []
    await world.add_pool("code-interpreter", 1, ip="10.2.0.")
    assert [one["templateID"] for one in await _get(world, "/default-templates")] == ["code-interpreter"]
    assert await _get(world, "/templates/aliases/base") == {"templateID": "code-interpreter", "public": False}
    assert (await world.create(templateID="base"))["templateID"] == "code-interpreter"
    named = (await _get(world, "/templates"))[0]
    assert named["aliases"] == ["code-interpreter", "base", "code-interpreter-v1"]
    assert named["names"] == [f"default/{one}" for one in named["aliases"]]
    detail = TemplateWithBuilds.from_dict(await _get(world, "/templates/base"))
    assert detail.is_default is True and detail.builds[0].build_id.hex == detail.build_id.replace("-", "")


@pytest.mark.parametrize("version", ["", "/v2"])
async def test_a_sandbox_is_told_by_the_name_its_client_asked_for(world: Any, version: str) -> None:
    """``alias`` is base for who created from base, also after a resume and in lists; ``templateID`` is resolved."""
    await world.add_pool("code-interpreter", 3, ip="10.2.0.")
    asked_for = {"Base": "base", "default/base:default": "base", "code-interpreter": "code-interpreter"}
    for asked, alias in asked_for.items():
        made = await world.create(version, templateID=asked)
        path = f"/sandboxes/{made['sandboxID']}"
        await world.call("POST", f"{path}/pause")
        again = await (await world.call("POST", f"{version}{path}/connect", json={"timeout": 20})).get_json()
        listed = [one for one in await _get(world, "/v2/sandboxes") if one["sandboxID"] == made["sandboxID"]]
        for view in (made, again, await _get(world, path), *listed):
            assert (view["templateID"], view["alias"]) == ("code-interpreter", alias)


async def test_the_builds_of_a_template_come_in_pages(world: Any) -> None:
    """There is one build, so the first page has it and names no next; what is wrong with a page is named."""
    whole, page = await _get(world, "/templates/python"), await world.call("GET", "/templates/python?limit=1")
    assert await page.get_json() == whole and len(whole["builds"]) == 1 and "X-Next-Token" not in page.headers
    assert (await _get(world, "/templates/python?nextToken=1"))["builds"] == []
    for query in ("limit=0", "limit=101", "limit=x", "nextToken=x"):
        answer = await world.call("GET", f"/templates/python?{query}")
        assert answer.status_code == 400 and query.partition("=")[0] in (await answer.get_json())["message"]


async def test_tag_resources(world: Any) -> None:
    """Counted, looked up in any case, grouped in pages and orders, one assignment each; the SDK's models read them."""
    await world.call("POST", "/templates/tags", json={"target": "python", "tags": ["v2", "v1"]})
    base = "/templates/default%2Fpython/tags"
    assert await _get(world, f"{base}/count") == {"total": 3}
    assert await _get(world, f"{base}/exists?tag=V1") == {"exists": True, "normalizedTag": "v1"}
    assert await _get(world, f"{base}/exists?tag=v9") == {"exists": False, "normalizedTag": "v9"}
    first = TemplateTagGroupsResponse.from_dict(await _get(world, f"{base}/groups?sort=name_asc&tagsLimit=2"))
    assert ([one.tag for one in first.tags], first.next_cursor) == (["default", "v1"], "v1")
    rest = TemplateTagGroupsResponse.from_dict(await _get(world, f"{base}/groups?sort=name_asc&tagsCursor=v1"))
    assert ([one.tag for one in rest.tags], rest.next_cursor) == (["v2"], None)
    found = await _get(world, f"{base}/groups?search=V&sort=name_desc")
    assert [one["tag"] for one in found["tags"]] == ["v2", "v1"] and not found["tags"][0]["hasMore"]
    latest = await _get(world, f"{base}/groups")
    assert latest["tags"][-1]["tag"] == "default" or latest["tags"][0]["tag"] == "v2"
    listed = TemplateTagAssignmentsResponse.from_dict(await _get(world, f"{base}/V2/assignments"))
    assert listed.data[0] == first.tags[0].assignments[0].__class__.from_dict(found["tags"][0]["assignments"][0])


@pytest.mark.parametrize(
    ("path", "status", "named"),
    [
        *(("exists", 400, "tag"), ("groups?sort=up", 400, "sort"), ("groups?tagsLimit=0", 400, "tagsLimit")),
        *(("groups?tagsCursor=x", 400, "tagsCursor"), ("v9/assignments", 404, "v9")),
        ("default/assignments?cursor=x", 400, "cursor"),
    ],
)
async def test_what_is_wrong_with_a_tag_request_is_named(world: Any, path: str, status: int, named: str) -> None:
    """A bad parameter is a 400 that names it, an unknown tag 404."""
    answer = await world.call("GET", f"/templates/python/tags/{path}")
    assert answer.status_code == status and named in (await answer.get_json())["message"]


async def test_deliveries_of_a_template_are_counted(world: Any) -> None:
    """spawnCount and lastSpawnedAt: none before the first, each once, kept after the end; a namesake begins anew."""
    view = await _get(world, "/templates/python")
    assert (view["spawnCount"], view["lastSpawnedAt"]) == (0, None)
    first, second = [await world.create() for _ in range(2)]
    started = (await _get(world, f"/sandboxes/{second['sandboxID']}"))["startedAt"]
    for path in (f"/sandboxes/{first['sandboxID']}/pause", f"/sandboxes/{first['sandboxID']}/resume"):
        await world.call("POST", path, json={})
    await world.call("DELETE", f"/sandboxes/{second['sandboxID']}")
    (listed,) = [one for one in await _get(world, "/templates") if one["templateID"] == "python"]
    view = await _get(world, "/templates/python")
    assert listed["spawnCount"] == view["spawnCount"] == 2
    assert view["lastSpawnedAt"] == started
    spawned = world.spawns
    assert spawned.of("default", "python", world.clock.now() + timedelta(hours=1)) is None
    assert spawned.of("default", "python", world.clock.now() - timedelta(hours=9)) is None
