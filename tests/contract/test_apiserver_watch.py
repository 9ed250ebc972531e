"""Watches: order, resumption, selection and expiry, over real HTTP streams."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest

MERGE = "application/merge-patch+json"


class Stream:
    """One watch; ``next()`` gives (type, object)."""

    def __init__(self, server: Any, path: str) -> None:
        self.connection = server.connection(timeout=10)
        self.connection.request("GET", path, headers={"Authorization": f"Bearer {server.token}"})
        self.answer = self.connection.getresponse()

    def next(self) -> tuple[str, Any]:
        event = json.loads(self.answer.readline())
        return event["type"], event["object"]

    def names(self, count: int) -> list[tuple[str, str]]:
        return [(kind, obj["metadata"]["name"]) for kind, obj in (self.next() for _ in range(count))]


@pytest.fixture
def watch() -> Iterator[Callable[..., Stream]]:
    """Opens watches of a namespace's ConfigMaps and closes them."""
    streams: list[Stream] = []

    def open_(query: str, server: Any, namespace: str = "default") -> Stream:
        streams.append(Stream(server, f"/api/v1/namespaces/{namespace}/configmaps?watch=true&{query}"))
        return streams[-1]

    yield open_
    for stream in streams:
        stream.answer.close()
        stream.connection.close()


def test_events_in_order_from_a_version(apiserver: Any, namespace: str, watch: Callable[..., Stream]) -> None:
    """From a list's version a watch sees every later change once, in order, with rising versions."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = apiserver.request("GET", path)[1]["metadata"]["resourceVersion"]
    apiserver.request("POST", path, {"metadata": {"name": "a"}})
    stream = watch(f"resourceVersion={version}", apiserver, namespace)
    apiserver.request("PATCH", f"{path}/a", {"data": {"x": "1"}}, media=MERGE)
    apiserver.request("DELETE", f"{path}/a")
    assert stream.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]


def test_selection_is_entered_and_left(apiserver: Any, namespace: str, watch: Callable[..., Stream]) -> None:
    """With a label selector, gaining the label is ADDED and losing it DELETED."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    version = apiserver.request("GET", path)[1]["metadata"]["resourceVersion"]
    stream = watch(f"resourceVersion={version}&labelSelector={quote('on=1')}", apiserver, namespace)
    apiserver.request("POST", path, {"metadata": {"name": "a"}})
    for value in ("1", "2"):
        apiserver.request("PATCH", f"{path}/a", {"metadata": {"labels": {"on": value}}}, media=MERGE)
    assert stream.names(2) == [("ADDED", "a"), ("DELETED", "a")]


def test_bookmarks_and_initial_events(apiserver: Any, namespace: str, watch: Callable[..., Stream]) -> None:
    """sendInitialEvents lists first and ends with a marked bookmark."""
    apiserver.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "a"}})
    query = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    stream = watch(query, apiserver, namespace)
    assert stream.next()[1]["metadata"]["name"] == "a"
    kind, mark = stream.next()
    assert kind == "BOOKMARK" and mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_unknown_history_is_410(own_apiserver: Callable[..., Any], watch: Callable[..., Stream]) -> None:
    """A version from before the server's memory (a restart) is Expired at once, as an answer or as the first event."""
    server = own_apiserver()
    path = "/api/v1/namespaces/default/configmaps"
    version = server.request("POST", path, {"metadata": {"name": "a"}})[1]["metadata"]["resourceVersion"]
    server.request("DELETE", f"{path}/a")
    server.stop()
    server.start()
    said = json.loads(watch(f"resourceVersion={version}", server).answer.readline())
    status = said["object"] if said.get("type") == "ERROR" else said
    assert (status["code"], status["reason"]) == (410, "Expired")


def test_the_future_is_410(embedded_apiserver: Any, watch: Callable[..., Stream]) -> None:
    """A version the embedded server has not reached (its store was deleted) is Expired; a real one waits for it."""
    stream = watch("resourceVersion=999999999", embedded_apiserver)
    assert (stream.answer.status, json.loads(stream.answer.read())["reason"]) == (410, "Expired")


def test_timeout_ends_the_watch(apiserver: Any, namespace: str, watch: Callable[..., Stream]) -> None:
    """timeoutSeconds ends a quiet watch cleanly."""
    assert watch("timeoutSeconds=1&resourceVersion=0", apiserver, namespace).answer.read() == b""


def test_stop_ends_watches(own_embedded: Callable[..., Any], watch: Callable[..., Stream]) -> None:
    """SIGTERM ends open watches and the process exits with 0 at once."""
    server = own_embedded()
    stream = watch("", server)
    assert server.stop() == 0
    assert stream.answer.read() == b""
