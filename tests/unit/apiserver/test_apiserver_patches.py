"""Patch formats and selectors as pure functions."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.embedded.apiserver.patches.merge import merge_patch
from appliance.embedded.apiserver.patches.strategic import strategic_merge
from appliance.embedded.apiserver.schema.core import core_node
from appliance.embedded.apiserver.selectors import label_terms
from appliance.embedded.apiserver.status import ApiStatus
from appliance.embedded.apiserver.tables.ages import human
from appliance.embedded.apiserver.tables.jsonpath import JsonPath, JsonPathError

POD = core_node("core.v1.Pod")


def spec(*containers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"containers": list(containers)}}


def test_merge_patch_shares_what_it_does_not_touch() -> None:
    """Untouched subtrees are the same objects (the schema walk skips them), and the original is unchanged."""
    old = {"spec": {"a": {"b": 1}}, "metadata": {"labels": {"x": "1"}}}
    new = merge_patch(old, {"metadata": {"labels": {"x": None, "y": "2"}}})
    assert new["spec"] is old["spec"]
    assert new["metadata"]["labels"] == {"y": "2"} and old["metadata"]["labels"] == {"x": "1"}


def test_strategic_merge_by_key() -> None:
    """Containers merge by name, env by name, $patch: delete removes, $setElementOrder orders."""
    old = spec({"name": "a", "image": "1", "env": [{"name": "X", "value": "1"}]}, {"name": "b", "image": "1"})
    patch: dict[str, Any] = spec(
        {"name": "a", "env": [{"name": "Y", "value": "2"}]},
        {"name": "b", "$patch": "delete"},
        {"name": "c", "image": "3"},
    )
    patch["spec"]["$setElementOrder/containers"] = [{"name": "c"}, {"name": "a"}]
    new = strategic_merge(POD, old, patch)
    assert [c["name"] for c in new["spec"]["containers"]] == ["c", "a"]
    assert new["spec"]["containers"][1] == {
        "name": "a",
        "image": "1",
        "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
    }


def test_strategic_primitive_lists() -> None:
    """Finalizers are added to, and removed by $deleteFromPrimitiveList."""
    old = {"metadata": {"finalizers": ["a", "b"]}}
    patch = {"metadata": {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge(POD, old, patch)["metadata"]["finalizers"] == ["b", "c"]


def test_strategic_without_merge_key_is_refused() -> None:
    """An item without its merge key is a 400 that names the key."""
    with pytest.raises(ApiStatus, match="merge key: name"):
        strategic_merge(POD, spec(), spec({"image": "x"}))


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("a=1,b!=2", {"a": "1"}, True),
        ("a in (1, 2)", {"a": "2"}, True),
        ("a notin (1)", {}, True),
        ("!a", {"a": ""}, False),
        ("x.io/a", {"x.io/a": ""}, True),
        ("a>3", {"a": "4"}, True),
        ("a==", {"a": ""}, True),
    ],
)
def test_label_selectors(text: str, labels: dict[str, str], matches: bool) -> None:
    """Each operator does what Kubernetes says."""
    assert all(term(labels) for term in label_terms(text)) is matches


@pytest.mark.parametrize("text", ["a=(", "=b", "a in x", "a=b c"])
def test_bad_selectors(text: str) -> None:
    """What cannot be read is a 400."""
    with pytest.raises(ApiStatus, match=r"unable to parse|expected"):
        label_terms(text)


def test_json_paths() -> None:
    """The subset of printer columns: keys, escapes, indexes, filters."""
    obj = {"metadata": {"labels": {"a.b/c": "x"}}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    assert JsonPath.parse('.status.conditions[?(@.type=="Ready")].status').find(obj) == ["True"]
    assert JsonPath.parse(r".metadata.labels.a\.b/c").find(obj) == ["x"]
    assert JsonPath.parse(".status.conditions[0].type").find(obj) == ["Ready"]
    assert JsonPath.parse(".nothing.here").find(obj) == []
    with pytest.raises(JsonPathError):
        JsonPath.parse("..foo")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5s"),
        (119, "119s"),
        (200, "3m20s"),
        (3600, "60m"),
        (4 * 3600, "4h"),
        (30 * 3600, "30h"),
        (86400 * 20, "20d"),
        (-60, "<invalid>"),
    ],
)
def test_ages(seconds: float, text: str) -> None:
    """Durations print as kubectl prints them."""
    assert human(seconds) == text
