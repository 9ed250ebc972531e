"""Requests of a Cluster against a scripted server: what goes out, and what comes of every kind of answer."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from appliance.api.kinds import NODE, POD, SANDBOX
from appliance.kube import errors
from appliance.kube.cluster import Cluster
from appliance.kube.transport import _abort

OBJECT = {"metadata": {"name": "a", "namespace": "d", "uid": "u", "resourceVersion": "7"}}


async def test_get_decodes_into_the_struct_and_sends_who_we_are(script: Any, cluster: Cluster) -> None:
    """A read goes to the object's path with the token and comes back typed."""
    script.then(script.json({**OBJECT, "status": {"phase": "Running"}, "junk": [1, {"x": None}]}))
    sbx = await cluster.get(SANDBOX, "d", "a")
    assert (sbx.name, sbx.status.phase) == ("a", "Running")
    method, path, _, _, headers = script.seen[0]
    assert (method, path) == ("GET", "/apis/agents.kruise.io/v1alpha1/namespaces/d/sandboxes/a")
    assert headers["Authorization"] == "Bearer secret"
    assert headers["User-Agent"] == "appliance"


async def test_type_dict_gives_the_whole_object(script: Any, cluster: Cluster) -> None:
    """Callers that need every field ask for dicts."""
    script.then(script.json({**OBJECT, "extra": 1}))
    assert (await cluster.get(NODE, None, "a", type=dict))["extra"] == 1


async def test_create_fills_in_what_the_path_already_says(script: Any, cluster: Cluster) -> None:
    """apiVersion and kind are added to the body."""
    script.then(script.json(OBJECT, 201))
    await cluster.create(POD, "d", {"metadata": {"generateName": "a-"}})
    method, path, _, body, _ = script.seen[0]
    assert (method, path) == ("POST", "/api/v1/namespaces/d/pods")
    assert json.loads(body) == {"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}}


async def test_a_guarded_patch_carries_the_version_and_leaves_the_callers_patch_alone(
    script: Any, cluster: Cluster
) -> None:
    """resource_version goes into the patch's metadata, subresource into the path; the argument is not changed."""
    script.then(script.json(OBJECT))
    patch = {"metadata": {"labels": {"a": None}}, "status": {}}
    await cluster.patch(SANDBOX, "d", "a", patch, resource_version="7", subresource="status")
    method, path, _, body, headers = script.seen[0]
    assert (method, path.rsplit("/", 1)[1]) == ("PATCH", "status")
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert json.loads(body)["metadata"] == {"labels": {"a": None}, "resourceVersion": "7"}
    assert patch == {"metadata": {"labels": {"a": None}}, "status": {}}


async def test_an_empty_guard_is_refused(cluster: Cluster) -> None:
    """An empty resourceVersion would be no guard at all, so it is an error before anything is sent."""
    with pytest.raises(ValueError, match="resource_version"):
        await cluster.patch(SANDBOX, "d", "a", {}, resource_version="")


async def test_delete_sends_preconditions(script: Any, cluster: Cluster) -> None:
    """uid, version, grace and propagation are DeleteOptions; what is not given is not sent."""
    script.then(script.json({"kind": "Status"}))
    await cluster.delete(POD, "d", "a", uid="u", resource_version="7", grace_seconds=0, propagation="Background")
    await cluster.delete(POD, "d", "a")
    options = json.loads(script.seen[0][3])
    assert options["preconditions"] == {"uid": "u", "resourceVersion": "7"}
    assert (options["gracePeriodSeconds"], options["propagationPolicy"]) == (0, "Background")
    assert json.loads(script.seen[1][3]) == {"apiVersion": "v1", "kind": "DeleteOptions"}


async def test_apply_is_server_side(script: Any, cluster: Cluster) -> None:
    """Server-side apply names its manager and its content type."""
    script.then(script.json(OBJECT))
    await cluster.apply(SANDBOX, "d", "a", {"metadata": {"name": "a"}}, manager="box", force=True)
    _, _, query, _, headers = script.seen[0]
    assert query == {"fieldManager": "box", "force": "true"}
    assert headers["Content-Type"] == "application/apply-patch+yaml"


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", errors.Invalid),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Expired", errors.Gone),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.ServerError),
        (503, "ServiceUnavailable", errors.ServerError),
        (418, "", errors.ApiError),
        (302, "", errors.ApiError),
    ],
)
async def test_refusals_become_the_error_with_their_name(
    script: Any, cluster: Cluster, code: int, reason: str, expected: type[errors.ApiError]
) -> None:
    """Status and reason choose the class; reason and message are kept."""
    script.then(script.status(code, reason, "because"))
    with pytest.raises(errors.ApiError) as caught:
        await cluster.get(SANDBOX, "d", "a")
    assert type(caught.value) is expected
    assert (caught.value.status, caught.value.reason, caught.value.message) == (code, reason, "because")


async def test_a_proxys_html_is_still_an_error_with_its_status(script: Any, cluster: Cluster) -> None:
    """A body that is no Status is quoted, shortened."""
    script.then(script.raw(b"<html>bad gateway</html>" * 1000, 502))
    with pytest.raises(errors.ServerError, match="502: <html>") as caught:
        await cluster.get(SANDBOX, "d", "a")
    assert len(str(caught.value)) < 300


async def test_busy_servers_are_waited_for(script: Any, cluster: Cluster) -> None:
    """429 with Retry-After was not executed: it is repeated, also for writes, and counted."""
    script.then(script.status(429, "TooManyRequests", **{"Retry-After": "0"}), script.json(OBJECT, 201))
    assert (await cluster.create(SANDBOX, "d", {})).name == "a"
    assert cluster.metrics.requests["create", "429"] == 1
    assert cluster.metrics.requests["create", "201"] == 1


async def test_a_delay_longer_than_the_deadline_is_the_answer(script: Any, cluster: Cluster) -> None:
    """Nobody waits for a Retry-After that the request's own deadline would cut off."""
    script.then(script.status(429, "TooManyRequests", **{"Retry-After": "3600"}))
    with pytest.raises(errors.TooManyRequests) as caught:
        await cluster.get(SANDBOX, "d", "a")
    assert caught.value.retry_after == 3600
    assert len(script.seen) == 1


async def test_writes_are_not_repeated_when_the_connection_breaks(script: Any, cluster: Cluster) -> None:
    """A broken write has an unknown outcome: Unreachable, and exactly one request was sent."""
    script.then(script.drop())
    with pytest.raises(errors.Unreachable):
        await cluster.patch(SANDBOX, "d", "a", {})
    assert len(script.seen) == 1
    assert cluster.metrics.requests["patch", "unreachable"] == 1


async def test_silence_is_a_time_out(script: Any, cluster: Cluster) -> None:
    """A server that accepts and never answers ends in RequestTimeout after the deadline."""
    cluster._transport._timeout = 0.05
    script.then(script.hang())
    with pytest.raises(errors.RequestTimeout):
        await cluster.get(SANDBOX, "d", "a")
    assert cluster.metrics.requests["get", "timeout"] == 1


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff\xfe", b'{"metadata": 5}'])
async def test_garbage_is_no_answer(script: Any, cluster: Cluster, body: bytes) -> None:
    """A 200 that is not the object counts as no answer, not as an empty object."""
    script.then(script.raw(body))
    with pytest.raises(errors.Unreachable):
        await cluster.get(SANDBOX, "d", "a")


async def test_a_list_follows_its_pages(script: Any, cluster: Cluster) -> None:
    """Tokens are followed, selectors sent with every page, and the version is the last page's."""
    first = {"metadata": {"name": "1"}}
    second = {"metadata": {"name": "2"}}
    script.then(script.page(first, token="t"), script.page(second))
    listing = await cluster.list(SANDBOX, "d", label_selector="a=b", field_selector="metadata.name=x")
    assert [item.name for item in listing.items] == ["1", "2"]
    assert (listing.resource_version, listing.complete) == ("10", True)
    assert script.seen[1][2] == {
        "limit": "500", "continue": "t", "labelSelector": "a=b", "fieldSelector": "metadata.name=x",
    }  # fmt: skip


async def test_an_expired_token_starts_the_list_again(script: Any, cluster: Cluster) -> None:
    """410 between two pages gives one complete list of a later moment, without duplicates."""
    one = {"metadata": {"name": "1"}}
    script.then(script.page(one, token="t"), script.status(410, "Expired"), script.page(one, version="11"))
    listing = await cluster.list(SANDBOX)
    assert ([item.name for item in listing.items], listing.resource_version) == (["1"], "11")


async def test_a_limit_says_whether_there_is_more(script: Any, cluster: Cluster) -> None:
    """limit cuts the list and complete tells the truth; nonsense limits are refused."""
    script.then(script.page({"metadata": {"name": "1"}}, token="t"))
    listing = await cluster.list(SANDBOX, limit=1)
    assert (len(listing.items), listing.complete, script.seen[0][2]["limit"]) == (1, False, "1")
    with pytest.raises(ValueError, match="limit"):
        await cluster.list(SANDBOX, limit=0)


async def test_one_bad_object_does_not_hide_the_others(
    script: Any, cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """A list with a misfit comes back without it, and the log names it."""
    bad = {"metadata": {"name": "bad", "namespace": "d"}, "spec": {"paused": "maybe"}}
    script.then(script.page({"metadata": {"name": "1"}}, bad, {"metadata": {"name": "2"}}))
    listing = await cluster.list(SANDBOX)
    assert [item.name for item in listing.items] == ["1", "2"]
    assert "d/bad" in caplog.text
    assert cluster.metrics.undecodable["sandboxes"] == 1


async def test_null_items_are_an_empty_list(script: Any, cluster: Cluster) -> None:
    """Go servers write null for an empty slice."""
    script.then(script.json({"metadata": {"resourceVersion": "3"}, "items": None}))
    assert (await cluster.list(SANDBOX)).items == []


async def test_metrics_read_as_prometheus_text(script: Any, cluster: Cluster) -> None:
    """Every counter is one line in the text format."""
    script.then(script.json(OBJECT))
    await cluster.get(SANDBOX, "d", "a")
    assert 'appliance_kube_requests_total{verb="get",outcome="200"} 1' in list(cluster.metrics.lines())


def test_a_tls_transport_whose_connection_is_gone_may_be_aborted() -> None:
    """What asyncio raised there before 3.11.7 ended commands with a traceback when they closed their connections."""
    transport: Any = SimpleNamespace(_closed=False, _ssl_protocol=None)
    _abort(transport)
    assert transport._closed
    aborted: list[bool] = []
    transport._ssl_protocol = SimpleNamespace(_abort=lambda: aborted.append(True))
    _abort(transport)
    assert aborted == [True]
