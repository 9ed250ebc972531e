"""Answers the framework or we give to what is wrong, missing or not here yet."""

import asyncio
import copy
from typing import Any

import pytest

from appliance.api import labels
from appliance.kube import errors


@pytest.mark.parametrize("prefix", ["", "/kruise/api"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("PATCH", "/sandboxes", 405),
        ("POST", "/v3/templates", 501),
        ("POST", "/v2/templates/team%2Fname%3Atag/builds/b", 501),
        ("GET", "/templates/team%2Fname/builds/b/status", 501),
        ("GET", "/templates/team%2Fname/files/abc", 501),
        ("GET", "/volumes", 501),
        ("GET", "/snapshots", 501),
        ("POST", "/secrets", 501),
        ("GET", "/sandboxes/unknown", 404),
        ("PUT", "/sandboxes/unknown/network", 404),
    ],
)
async def test_every_refusal_is_json(world: Any, prefix: str, method: str, path: str, status: int) -> None:
    """The body has an integer code equal to the status and a message, under both prefixes."""
    answer = await world.call(method, prefix + path)
    body = await answer.get_json()
    assert (answer.status_code, body["code"]) == (status, status) and body["message"]


async def test_pages_of_any_origin_may_call_the_api(world: Any) -> None:
    """A browser's preflight carries no key and is answered; the page may read the answer itself, an error too."""
    asking = {"Origin": "https://app.test", "Access-Control-Request-Method": "POST"}
    asked = await world.call("OPTIONS", "/v2/sandboxes", key="", headers=asking)
    assert asked.status_code == 204 and asked.headers["Access-Control-Allow-Origin"] == "*"
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    for path, key, status in (("/v2/sandboxes", None, 200), ("/v2/sandboxes", "", 401), ("/sandboxes/gone", None, 404)):
        options = {"headers": {"Origin": "https://app.test"}} | ({"key": key} if key is not None else {})
        answer = await world.call("GET", path, **options)
        assert answer.status_code == status and answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "X-Next-Token" in answer.headers["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in (await world.call("GET", "/v2/sandboxes")).headers


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"nope", b'{"templateID": 5}', b"{}", b"\xff"])
async def test_malformed_bodies_name_the_fault(world: Any, data: bytes) -> None:
    """Anything that is not the expected object is a 400 that starts with validation error."""
    answer = await world.call("POST", "/sandboxes", data=data)
    assert answer.status_code == 400
    assert (await answer.get_json())["message"].startswith("validation error")


async def test_a_body_too_large_is_413(world: Any) -> None:
    """The limit of the settings holds in the application too."""
    answer = await world.call("POST", "/sandboxes", data=b"x" * (world.settings.gateway.max_control_body + 1))
    assert answer.status_code == 413 and (await answer.get_json())["code"] == 413


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.Unreachable("10.0.0.1:6443"), 503),
        (errors.RequestTimeout("slow"), 503),
        (errors.TooManyRequests(429, "", "later", retry_after=3), 429),
        (errors.ServerError(500, "", "boom"), 503),
        (errors.Forbidden(403, "", "rbac"), 500),
        (errors.Invalid(422, "", "spec.x: no"), 400),
        (RuntimeError("secret"), 500),
    ],
)
async def test_the_clusters_troubles_have_a_status_and_no_addresses(world: Any, error: Exception, status: int) -> None:
    """Each kind of failure maps to one status; nothing internal is told; a bug is 500 without details."""
    sandbox_id = (await world.create())["sandboxID"]
    world.cluster.fail = lambda verb, plural: error if verb == "patch" else None
    answer = await world.call("POST", f"/sandboxes/{sandbox_id}/timeout", json={"timeout": 900})
    body = await answer.get_json()
    assert (answer.status_code, body["code"]) == (status, status)
    assert "10.0.0.1" not in body["message"] and "secret" not in body["message"]


async def test_request_ids(world: Any) -> None:
    """A given request id comes back, a missing or odd one is replaced, also on errors."""
    answer = await world.call("GET", "/nothing", headers={"X-Request-ID": "abc-1"})
    assert answer.headers["X-Request-ID"] == "abc-1"
    answer = await world.call("GET", "/health", headers={"X-Request-ID": "a b"})
    assert len(answer.headers["X-Request-ID"]) == 32


async def test_metrics_page(world: Any) -> None:
    """Prometheus text with requests, claims, sandboxes and the gateway, and no id in it."""
    sandbox_id = (await world.create())["sandboxID"]
    await world.call("GET", f"/sandboxes/{sandbox_id}")
    world.gateway.stats.answered("sandbox", 200)
    answer = await world.call("GET", "/metrics", key="")
    text = await answer.get_data(as_text=True)
    assert answer.status_code == 200 and sandbox_id not in text
    for line in (
        'appliance_claims_total{outcome="pool"} 1',
        'appliance_sandboxes{state="running"} 1',
        'appliance_gateway_requests_total{kind="sandbox",status="2xx"} 1',
        'appliance_api_requests_total{method="GET",route="/sandboxes/<sandbox_id>",status="200"} 1',
        "appliance_gateway_open_connections 0",
    ):
        assert line in text.splitlines()
    assert 'le="+Inf"' in text


async def test_an_id_this_replica_has_not_heard_of_is_asked_live(world: Any) -> None:
    """A sandbox made through another replica is found before the watch tells; the question is asked once."""
    stored = copy.deepcopy(world.stored((await world.create())["sandboxID"]))
    sandbox_id = "i" + "z" * 20
    stored["metadata"] |= {"name": "elsewhere", "uid": "uid-elsewhere"}
    stored["metadata"]["labels"][labels.SANDBOX_ID] = sandbox_id
    world.cluster.objects["sandboxes", "default", "elsewhere"] = stored
    answers = await asyncio.gather(*(world.call("GET", f"/sandboxes/{sandbox_id}") for _ in range(3)))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len([call for call in world.cluster.calls if call[0] == "list"]) == 1
    assert world.routes.resolve(sandbox_id, 80).sandbox_id == sandbox_id


async def test_sandbox_metrics_come_from_the_runtime(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample is taken and kept; windows filter; what is no sample adds none."""
    from aiohttp import web

    replies = [{"ts": 1_700_000_000, "cpu_count": 2, "cpu_used_pct": 1.5, "mem_total": 4, "mem_used": 2}]
    replies[0] |= {"disk_total": 9, "disk_used": 3}
    tokens = []

    async def serve(request: web.Request) -> web.Response:
        tokens.append(request.headers.get("X-Access-Token"))
        return web.json_response(replies[0])

    app = web.Application()
    app.router.add_get("/metrics", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setattr("appliance.manager.guest.PORT_ENVD", runner.addresses[0][1])
    try:
        await world.add_pool("local", 1, ip="127.0.0.")
        made = await world.create(templateID="local")
        path = f"/sandboxes/{made['sandboxID']}/metrics"
        found = await (await world.call("GET", path)).get_json()
        assert found[0]["memUsed"] == 2 and found[0]["timestamp"] == "2023-11-14T22:13:20Z"
        assert tokens == [made["envdAccessToken"]]
        assert await (await world.call("GET", f"{path}?start=1&end=2")).get_json() == []
        assert (await world.call("GET", f"{path}?start=2&end=1")).status_code == 400
        many = await (await world.call("GET", f"/sandboxes/metrics?sandbox_ids={made['sandboxID']},x")).get_json()
        assert list(many["sandboxes"]) == [made["sandboxID"]]
        repeated = f"/sandboxes/metrics?sandbox_ids=x&sandbox_ids={made['sandboxID']}"
        assert await (await world.call("GET", repeated)).get_json() == many
        replies[0] = {"nonsense": True}
        assert len(await (await world.call("GET", path)).get_json()) == 1
    finally:
        await runner.cleanup()
