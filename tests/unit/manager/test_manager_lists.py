"""Lists: filters in every encoding, order, pages."""

from typing import Any
from urllib.parse import quote, urlencode

import pytest

from appliance.manager.listing import parse_metadata


async def _ids(world: Any, query: str, path: str = "/v2/sandboxes") -> list[str]:
    answer = await world.call("GET", f"{path}?{query}")
    assert answer.status_code == 200, await answer.get_data()
    return [one["sandboxID"] for one in await answer.get_json()]


async def test_filters(world: Any) -> None:
    """State, metadata, template and start each select; X-Total-Running counts all running matches."""
    first = (await world.create(metadata={"user": "a&b=c d"}))["sandboxID"]
    second = (await world.create(metadata={"user": "x"}))["sandboxID"]
    await world.call("POST", f"/sandboxes/{second}/pause")
    assert await _ids(world, "") == [second, first]
    assert await _ids(world, "order=asc") == [first, second]
    assert await _ids(world, "state=paused") == [second]
    assert await _ids(world, "state=running&state=paused") == [second, first]
    assert await _ids(world, "", "/sandboxes") == [first]
    sdk = quote(urlencode({quote("user"): quote("a&b=c d")}), safe="")
    assert await _ids(world, f"metadata={sdk}") == [first]
    assert await _ids(world, "metadata=user%3Dx") == [second]
    assert await _ids(world, "template=python") == [second, first]
    assert await _ids(world, "template=nothing") == []
    started = (await (await world.call("GET", f"/sandboxes/{second}")).get_json())["startedAt"]
    assert await _ids(world, urlencode({"startedAfter": started})) == [second]
    answer = await world.call("GET", "/v2/sandboxes?limit=1&state=running")
    assert answer.headers["X-Total-Running"] == "1" and "X-Next-Token" not in answer.headers
    assert "X-Total-Running" not in (await world.call("GET", "/v2/sandboxes?state=paused")).headers


_ONE = {"a b": "c&d=e", "ü%": "+ 100%/"}
_PAIRS = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in _ONE.items())
_TWICE = urlencode({quote(key, safe=""): quote(value, safe="") for key, value in _ONE.items()})


_PYTHON = urlencode({quote(key): quote(value) for key, value in _ONE.items()})


@pytest.mark.parametrize(
    "text", [_PAIRS, quote(_PAIRS, safe=""), _TWICE, quote(_TWICE, safe=""), _PYTHON, quote(_PYTHON), urlencode(_ONE)]
)
def test_a_metadata_filter_is_understood_in_every_encoding(text: str) -> None:
    """Pairs encoded once or twice, the whole encoded again or not: all mean the same."""
    assert parse_metadata(text) == _ONE


async def test_a_template_filter_takes_aliases(world: Any) -> None:
    """The name that SDKs use by themselves finds what was made from the template it stands for."""
    await world.add_pool("code-interpreter", 1)
    made = (await world.create(templateID="code-interpreter-v1"))["sandboxID"]
    assert await _ids(world, "template=code-interpreter-v1") == [made]
    assert await _ids(world, "template=code-interpreter") == [made]


async def test_pages_are_stable_while_sandboxes_come_and_go(world: Any) -> None:
    """The token continues after its last item even when that one is gone."""
    made = [(await world.create())["sandboxID"] for _ in range(3)]
    answer = await world.call("GET", "/v2/sandboxes?limit=2")
    token = answer.headers["X-Next-Token"]
    await world.call("DELETE", f"/sandboxes/{made[1]}")
    assert await _ids(world, f"limit=2&nextToken={token}") == [made[0]]


@pytest.mark.parametrize(
    "query",
    [
        *("limit=0", "limit=101", "limit=x", "state=dead", "order=up", "startedAfter=yesterday", "nextToken=%21"),
        *("template=a:b", "metadata=x", "nextToken=MjAyNi0wMS0wMVQwMDowMDowMFpfX2lfX2FzYw"),
    ],
)
async def test_bad_parameters_are_named(world: Any, query: str) -> None:
    """Each is a 400 whose message names the parameter; a token of the other order too."""
    answer = await world.call("GET", f"/v2/sandboxes?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in (await answer.get_json())["message"]


@pytest.mark.parametrize("value", ["é", "100%", "a+b", "=&=", "%2525"])
def test_metadata_survives_the_sdks_encoding(value: str) -> None:
    """What the SDK encodes comes back byte for byte (the framework has removed the last layer)."""
    assert parse_metadata(urlencode({quote("k"): quote(value)})) == {"k": value}


async def test_templates(world: Any) -> None:
    """SandboxSets are templates: lists, detail, alias, tags; they cannot be deleted here."""
    listed = await (await world.call("GET", "/templates")).get_json()
    assert listed[0]["templateID"] == "python" and listed[0]["cpuCount"] == 2
    answer = await world.call("GET", "/v2/templates?limit=1")
    assert await answer.get_json() == listed and "X-Next-Token" not in answer.headers
    for name in ("python", "default%2Fpython%3Adefault", "PYTHON"):
        detail = await (await world.call("GET", f"/templates/{name}")).get_json()
        assert detail["templateID"] == "python" and detail["builds"][0]["buildID"] == listed[0]["buildID"]
    assert await (await world.call("GET", "/templates/aliases/python")).get_json() == {
        "templateID": "python",
        "public": False,
    }
    tags = await (await world.call("GET", "/templates/python/tags")).get_json()
    assert tags[0]["tag"] == "default"
    assert (await world.call("GET", "/templates/aliases/nothing")).status_code == 404
    assert (await world.call("DELETE", "/templates/nothing")).status_code == 404
    assert (await world.call("GET", "/templates?teamID=other")).status_code == 400


async def test_the_interpreters_default_name_means_the_default_pool(world: Any) -> None:
    """Sandbox.create() without a template asks for code-interpreter-v1; a pool named code-interpreter serves it."""
    assert (await world.call("POST", "/sandboxes", json={"templateID": "code-interpreter-v1"})).status_code == 404
    await world.add_pool("code-interpreter", 1, ip="10.2.0.")
    assert (await world.create(templateID="code-interpreter-v1"))["templateID"] == "code-interpreter"
