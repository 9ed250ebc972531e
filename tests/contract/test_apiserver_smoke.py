"""The API server comes up, knows who calls, and stores an object."""

from typing import Any


def test_create_and_read_back(apiserver: Any, namespace: str) -> None:
    """An object created is served with uid, resourceVersion and creationTimestamp."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    body = {"metadata": {"name": "one"}, "data": {"a": "b"}}
    code, made = apiserver.request("POST", path, body)
    assert code == 201
    code, read = apiserver.request("GET", f"{path}/one")
    assert (code, read) == (200, made)
    assert {"uid", "resourceVersion", "creationTimestamp"} <= read["metadata"].keys()


def test_unknown_token_is_401(apiserver: Any) -> None:
    """A token that is not in tokens.json is refused with a Status."""
    code, status = apiserver.request("GET", "/api/v1/pods", headers={"Authorization": "Bearer no"})
    assert (code, status["reason"]) == (401, "Unauthorized")
