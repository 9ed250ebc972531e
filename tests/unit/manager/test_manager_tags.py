"""Tags of templates: assigned, used, listed, taken away."""

from typing import Any

import pytest


async def _assign(world: Any, target: str, *tags: str) -> Any:
    return await world.call("POST", "/templates/tags", json={"target": target, "tags": list(tags)})


async def _remove(world: Any, name: str, *tags: str) -> int:
    answer = await world.call("DELETE", "/templates/tags", json={"name": name, "tags": list(tags)})
    status: int = answer.status_code
    return status


async def _tags(world: Any) -> list[str]:
    found = await (await world.call("GET", "/templates/python/tags")).get_json()
    assert len({one["buildID"] for one in found}) == 1 and all(one["createdAt"] for one in found)
    return [one["tag"] for one in found]


async def test_a_tag_names_the_template_until_it_is_taken_away(world: Any) -> None:
    """name:tag creates sandboxes once assigned, is listed, can be the target of further tags, and is 404 after."""
    answer = await _assign(world, "python", "V1", "stable")
    assert answer.status_code == 201
    assert (await answer.get_json())["tags"] == ["v1", "stable"]
    assert (await world.create(templateID="python:v1"))["templateID"] == "python"
    assert (await _assign(world, "python:v1", "v2")).status_code == 201
    assert await _tags(world) == ["default", "stable", "v1", "v2"]
    assert await _remove(world, "python", "v1", "v2") == 204
    assert await _tags(world) == ["default", "stable"]
    answer = await world.call("POST", "/v2/sandboxes", json={"templateID": "python:v1"})
    assert answer.status_code == 404
    assert (await answer.get_json())["message"] == "tag 'v1' does not exist for template 'python'"


@pytest.mark.parametrize(
    ("target", "tags", "status"),
    [
        *((":v1", ["a"], 400), ("python:", ["a"], 400), ("python", [], 400), ("python", ["a b"], 400)),
        ("python", ["6bbc358f-3dbe-51ba-b6d0-836518938e66"], 400),
        ("python", [f"t{number}" for number in range(65)], 400),
        *(("nothing", ["a"], 404), ("python:v9", ["a"], 404)),
    ],
)
async def test_what_cannot_be_assigned(world: Any, target: str, tags: list[str], status: int) -> None:
    """Malformed targets and tags are 400, unknown templates and tags 404; nothing is written."""
    answer = await _assign(world, target, *tags)
    assert answer.status_code == status and (await answer.get_json())["code"] == status
    assert await _tags(world) == ["default"]


async def test_what_cannot_be_removed(world: Any) -> None:
    """The default tag is 400, a missing tag or template 404; one wrong tag keeps the others."""
    await _assign(world, "python", "v1")
    assert await _remove(world, "python", "default") == 400
    assert await _remove(world, "python", "v1", "v2") == 404
    assert await _remove(world, "nothing", "v1") == 404
    assert await _tags(world) == ["default", "v1"]


async def test_another_team_cannot_tag(world: Any) -> None:
    """A template of another team is unknown."""
    made = await world.call("POST", "/api-keys", json={"name": "k", "teamName": "other"})
    key = (await made.get_json())["key"]
    answer = await world.call("POST", "/templates/tags", key=key, json={"target": "python", "tags": ["x"]})
    assert answer.status_code == 404
