"""The watch stack on bad days: half lines, garbage, silence, expired positions, broken connections."""

from contextlib import aclosing
from typing import Any

import pytest

from appliance.api.kinds import POD, SANDBOX
from appliance.kube import errors, watching
from appliance.kube.cluster import Cluster
from appliance.kube.codec import Event, Page


def added(name: str, version: int, kind: str = "ADDED", **more: Any) -> dict[str, Any]:
    meta = {"name": name, "namespace": "d", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"type": kind, "object": {"metadata": meta, **more}}


def bookmark(version: int) -> dict[str, Any]:
    """As a real server sends it: a typed, empty object with nulls in it."""
    return {
        "type": "BOOKMARK",
        "object": {
            "kind": "Pod",
            "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
            "spec": {"containers": None},
        },
    }


async def take(cluster: Cluster, count: int, since: str = "1", kind: Any = SANDBOX) -> list[tuple[str, str]]:
    seen: list[tuple[str, str]] = []
    async with aclosing(cluster.watch(kind, "d", resource_version=since)) as events:
        async for event in events:
            seen.append((event.type, event.object.meta.resource_version))
            if len(seen) == count:
                break
    return seen


async def test_events_arrive_typed_however_the_bytes_are_cut(script: Any, cluster: Cluster) -> None:
    """Lines split over chunks, several lines in one chunk and empty lines make no difference."""
    import json

    one, two, three = (json.dumps(added("a", n)).encode() + b"\n" for n in (2, 3, 4))
    script.then(script.watch(one[:10], one[10:] + two + b"\n" + three[:-1], b"\n"))
    assert await take(cluster, 3) == [("ADDED", "2"), ("ADDED", "3"), ("ADDED", "4")]


async def test_a_watch_asks_for_bookmarks_and_an_end(script: Any, cluster: Cluster) -> None:
    """The request carries position, selector, bookmarks and a server-side time limit near the configured one."""
    script.then(script.watch(added("a", 2)))
    async with aclosing(cluster.watch(SANDBOX, "d", resource_version="1", label_selector="a=b")) as events:
        await anext(events)
    query = script.seen[0][2]
    assert (query["watch"], query["allowWatchBookmarks"], query["resourceVersion"]) == ("true", "true", "1")
    assert query["labelSelector"] == "a=b"
    assert 240 <= int(query["timeoutSeconds"]) <= 360


@pytest.mark.parametrize("end", ["end", "break"])
async def test_a_stream_that_stops_is_taken_up_where_it_stopped(script: Any, cluster: Cluster, end: str) -> None:
    """After a regular end and after a broken connection the next request starts at the last event."""
    script.then(script.watch(added("a", 5), end=end), script.watch(added("b", 6)))
    assert await take(cluster, 2) == [("ADDED", "5"), ("ADDED", "6")]
    assert script.seen[1][2]["resourceVersion"] == "5"


async def test_bookmarks_move_the_position_without_being_seen(script: Any, cluster: Cluster) -> None:
    """A typed bookmark with nulls where lists belong is understood, hidden, and where the next request starts."""
    script.then(script.watch(bookmark(50), end="end"), script.watch(added("b", 60)))
    assert await take(cluster, 1, kind=POD) == [("ADDED", "60")]
    assert script.seen[1][2]["resourceVersion"] == "50"


@pytest.mark.parametrize(
    "bad", [b'{"type":"ADDED","obj', b"not json\n", b"[]\n", b'{"type":"ADDED"}\n', b'{"type":1,"object":{}}\n']
)
async def test_garbage_ends_the_stream_and_not_the_watch(script: Any, cluster: Cluster, bad: bytes) -> None:
    """Half lines at the end and lines that are no events count as a broken connection: taken up again."""
    script.then(script.watch(added("a", 5), bad, end="end"), script.watch(added("b", 6)))
    assert await take(cluster, 2) == [("ADDED", "5"), ("ADDED", "6")]


async def test_one_bad_object_is_skipped(script: Any, cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """An event whose object does not fit is named in the log and does not end the stream."""
    script.then(script.watch(added("bad", 5, spec={"paused": "perhaps"}), added("b", 6)))
    assert await take(cluster, 1) == [("ADDED", "6")]
    assert "d/bad" in caplog.text
    assert len(script.seen) == 1


async def test_an_expired_position_is_gone(script: Any, cluster: Cluster) -> None:
    """410 as an ERROR event and as a status are both Gone: only a new list helps."""
    error = {"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": 410, "reason": "Expired"}}
    for step in (script.watch(error), script.status(410, "Expired")):
        script.steps = [step]
        with pytest.raises(errors.Gone):
            await take(cluster, 1)


async def test_a_busy_server_is_waited_for(script: Any, cluster: Cluster) -> None:
    """500, 503 and 429 open the stream again; the causes are counted."""
    script.then(script.status(500), script.status(503), script.status(429), script.watch(added("a", 2)))
    assert await take(cluster, 1) == [("ADDED", "2")]
    restarts = cluster.metrics.watch_restarts
    assert (restarts["sandboxes", "ServerError"], restarts["sandboxes", "TooManyRequests"]) == (2, 1)


async def test_silence_is_noticed(script: Any, cluster: Cluster) -> None:
    """A stream without a byte for the inactivity time is opened again."""
    from dataclasses import replace

    cluster.settings = replace(cluster.settings, watch_inactivity=0.05)
    script.then(script.watch(added("a", 2)), script.watch(added("b", 3)))
    assert await take(cluster, 2) == [("ADDED", "2"), ("ADDED", "3")]
    assert cluster.metrics.watch_restarts["sandboxes", "RequestTimeout"] == 1


async def test_a_refusal_ends_a_plain_watch(script: Any, cluster: Cluster) -> None:
    """Whoever watches by hand is told of missing rights instead of waiting for ever."""
    script.then(script.status(403, "Forbidden"))
    with pytest.raises(errors.Forbidden):
        await take(cluster, 1)


async def test_an_informers_stream_survives_everything(script: Any, cluster: Cluster) -> None:
    """Forbidden, not found, garbage, then a list, a 410, and a second list: the steps tell it all in order."""
    item = {"metadata": {"name": "a", "namespace": "d", "resourceVersion": "9"}}
    script.then(
        script.status(403, "Forbidden"),
        script.status(404, "NotFound"),
        script.raw(b"{"),
        script.page(item, version="10"),
        script.status(410, "Expired"),
        script.page(version="20"),
        script.watch(added("b", 21)),
    )
    shown: list[str] = []
    async with aclosing(watching.persist(cluster.source(SANDBOX))) as steps:
        async for step in steps:
            match step:
                case Page():
                    shown.append(f"page {len(step.items)}")
                case watching.Listed():
                    shown.append(f"listed {step.resource_version}")
                case Event():
                    shown.append(step.type)
                    break
    assert shown == ["page 1", "listed 10", "page 0", "listed 20", "ADDED"]
    assert cluster.metrics.lists["sandboxes"] == 2


async def test_closing_a_watch_closes_its_connection(script: Any, cluster: Cluster) -> None:
    """Nothing stays open: after the iterator is closed the session holds no busy connection."""
    script.then(script.watch(added("a", 2)))
    async with aclosing(cluster.watch(SANDBOX, resource_version="1")) as events:
        await anext(events)
        connector = cluster._transport._session.connector
        assert connector is not None
        assert len(connector._acquired) == 1
    assert len(connector._acquired) == 0
