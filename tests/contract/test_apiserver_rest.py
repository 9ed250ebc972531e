"""REST behaviour of the API server: what clients rely on for correctness."""

from __future__ import annotations

from typing import Any

MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC, APPLY = "application/strategic-merge-patch+json", "application/apply-patch+yaml"
SANDBOXES = "/apis/agents.kruise.io/v1alpha1/namespaces/{}/sandboxes"
SETS = "/apis/agents.kruise.io/v1alpha1/namespaces/{}/sandboxsets"
TEMPLATE = {"spec": {"containers": [{"name": "c", "image": "i"}]}}


def ours(kind: str, meta: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    """An object of the product's group: custom resources say their kind, also where the path already does."""
    return {"apiVersion": "agents.kruise.io/v1alpha1", "kind": kind, "metadata": meta, "spec": spec}


def sandbox(name: str, **meta: Any) -> dict[str, Any]:
    return ours("Sandbox", {"name": name, **meta}, {"template": TEMPLATE})


def pod(name: str, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **meta}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


def test_stale_write_is_409(apiserver: Any, namespace: str) -> None:
    """A patch that carries an older resourceVersion is refused with the real text, and changes nothing."""
    path = SANDBOXES.format(namespace)
    _, made = apiserver.request("POST", path, sandbox("a"))
    guard = {"metadata": {"resourceVersion": made["metadata"]["resourceVersion"], "labels": {"x": "1"}}}
    assert apiserver.request("PATCH", f"{path}/a", guard, media=MERGE)[0] == 200
    code, status = apiserver.request("PATCH", f"{path}/a", guard, media=MERGE)
    assert (code, status["reason"]) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version" in status["message"]


def test_status_and_spec_are_separate(apiserver: Any, namespace: str) -> None:
    """The main resource ignores status, the status subresource ignores spec; only spec changes count generations."""
    path = SANDBOXES.format(namespace)
    apiserver.request("POST", path, sandbox("a") | {"status": {"phase": "Running"}})
    _, got = apiserver.request("GET", f"{path}/a")
    assert "status" not in got and got["metadata"]["generation"] == 1
    both = {"spec": {"paused": True}, "status": {"phase": "Running"}}
    _, got = apiserver.request("PATCH", f"{path}/a/status", both, media=MERGE)
    assert got["status"]["phase"] == "Running" and not got["spec"].get("paused")
    assert got["metadata"]["generation"] == 1
    _, got = apiserver.request("PATCH", f"{path}/a", both, media=MERGE)
    assert got["spec"]["paused"] is True and got["metadata"]["generation"] == 2


def test_no_change_keeps_the_version(apiserver: Any, namespace: str) -> None:
    """A patch that changes nothing does not make a new version."""
    path = SANDBOXES.format(namespace)
    _, made = apiserver.request("POST", path, sandbox("a", labels={"x": "1"}))
    _, same = apiserver.request("PATCH", f"{path}/a", {"metadata": {"labels": {"x": "1"}}}, media=MERGE)
    assert same == made


def test_generate_name_and_duplicates(apiserver: Any, namespace: str) -> None:
    """generateName makes a fresh name; a second object of one name is 409 AlreadyExists."""
    path = SANDBOXES.format(namespace)
    code, made = apiserver.request("POST", path, ours("Sandbox", {"generateName": "x-"}, {"template": TEMPLATE}))
    assert code == 201 and made["metadata"]["name"].startswith("x-") and len(made["metadata"]["name"]) == 7
    code, status = apiserver.request("POST", path, sandbox(made["metadata"]["name"]))
    assert (code, status["reason"]) == (409, "AlreadyExists")


def test_pages_are_one_snapshot(apiserver: Any, namespace: str) -> None:
    """Pages of a list come from the version of the first page, whatever happens in between."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    for index in range(5):
        apiserver.request("POST", path, {"metadata": {"name": f"c{index}"}})
    _, first = apiserver.request("GET", f"{path}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    apiserver.request("DELETE", f"{path}/c4")
    _, rest = apiserver.request("GET", f"{path}?limit=9&continue={first['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in first["items"] + rest["items"]] == [f"c{i}" for i in range(5)]
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    code, status = apiserver.request("GET", f"{path}?continue=bm9wZTox")
    assert (code, status["reason"]) == (400, "BadRequest") and "continue key is not valid" in status["message"]


def test_selectors(apiserver: Any, namespace: str) -> None:
    """Label and field selectors choose; an unknown field is a 400 that names it."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    for name, label in (("a", "x"), ("b", "y")):
        body = pod(name, labels={"t": label})
        body["spec"]["nodeName"] = "box"
        apiserver.request("POST", path, body)

    def names(query: str) -> list[str]:
        return [item["metadata"]["name"] for item in apiserver.request("GET", f"{path}?{query}")[1]["items"]]

    assert names("labelSelector=t%3Dx") == ["a"]
    assert names("labelSelector=t%20in%20(x,y),t!%3Dx") == ["b"]
    assert names("fieldSelector=metadata.name%3Db") == ["b"]
    assert names("fieldSelector=spec.nodeName%3Dbox,status.phase%3DPending") == ["a", "b"]
    code, status = apiserver.request("GET", f"{path}?fieldSelector=spec.foo%3D1")
    assert code == 400 and "field label not supported: spec.foo" in status["message"]


def test_invalid_objects_name_the_field(apiserver: Any, namespace: str) -> None:
    """Schema and metadata mistakes are 422 with the field's path; unknown fields 400 under Strict."""
    path = SETS.format(namespace)
    wrong = ours("SandboxSet", {"name": "a"}, {"replicas": -1, "template": TEMPLATE})
    code, status = apiserver.request("POST", path, wrong)
    assert code == 422 and "spec.replicas: Invalid value: -1" in status["message"]
    assert status["details"]["causes"][0]["field"] == "spec.replicas"
    unknown = ours("SandboxSet", {"name": "a"}, {"replicas": 1, "fooo": 1, "template": TEMPLATE})
    code, status = apiserver.request("POST", f"{path}?fieldValidation=Strict", unknown)
    assert code == 400 and 'strict decoding error: unknown field "spec.fooo"' in status["message"]
    code, status = apiserver.request(
        "POST", f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": "p"}, "spec": {}}
    )
    assert code == 422 and "spec.containers: Required value" in status["message"]
    code, status = apiserver.request(
        "POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": "A_b"}}
    )
    assert code == 422 and "metadata.name" in status["message"]


def test_pod_templates_are_checked_early(embedded_apiserver: Any) -> None:
    """The embedded server looks into pod templates too, where a CRD's schema cannot: mistakes show at apply."""
    path = SETS.format("default")
    empty = ours("SandboxSet", {"name": "a"}, {"replicas": 1, "template": {"spec": {"containers": [{"name": "c"}]}}})
    code, status = embedded_apiserver.request("POST", path, empty)
    assert code == 422 and "spec.template.spec.containers[0].image: Required value" in status["message"]
    unknown = ours("SandboxSet", {"name": "a"}, {"replicas": 1, "template": {"spec": {"contaners": []}}})
    code, status = embedded_apiserver.request("POST", f"{path}?fieldValidation=Strict", unknown)
    assert code == 400 and 'unknown field "spec.template.spec.contaners"' in status["message"]


def test_malformed_requests(apiserver: Any, namespace: str) -> None:
    """Broken JSON, wrong kinds, unknown kinds and formats get a Status that says what was expected."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert apiserver.request("POST", path, b"{")[0] == 400
    assert apiserver.request("POST", path, b"[]")[0] == 400
    assert apiserver.request("POST", path, {"kind": "Secret", "metadata": {"name": "x"}})[0] == 400
    assert apiserver.request("POST", path, b"x", media="text/plain")[0] == 415
    assert apiserver.request("POST", path, b"k8s\x00\xff\xff", media="application/vnd.kubernetes.protobuf")[0] == 400
    assert apiserver.request("POST", path, b"x" * (4 << 20))[0] == 413
    assert apiserver.request("POST", "/api/v1/namespaces/none/configmaps", {"metadata": {"name": "x"}})[0] == 404


def test_kinds_left_out_are_named(embedded_apiserver: Any) -> None:
    """A kind of Kubernetes that the embedded cluster does not have is a 404 that says so."""
    code, status = embedded_apiserver.request("GET", "/apis/apps/v1/deployments")
    assert code == 404 and "embedded cluster" in status["message"]


def test_custom_objects_say_what_they_are(apiserver: Any, namespace: str) -> None:
    """A custom resource without kind is a 400 that says so; a core one takes its kind from the path."""
    code, status = apiserver.request("POST", SANDBOXES.format(namespace), {"metadata": {"name": "a"}})
    assert code == 400 and "must be of type Sandbox): Object 'Kind' is missing in" in status["message"]
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert apiserver.request("POST", path, {"metadata": {"name": "a"}})[1]["kind"] == "ConfigMap"


def test_empty_metadata_is_not_kept(apiserver: Any, namespace: str) -> None:
    """Empty labels, annotations, finalizers and owners are dropped, at creation and when the last entry goes."""
    path = SANDBOXES.format(namespace)
    empty = {"labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": []}
    _, made = apiserver.request("POST", path, sandbox("a", **empty))
    assert not empty.keys() & made["metadata"].keys()
    apiserver.request("PATCH", f"{path}/a", {"metadata": {"labels": {"x": "1"}}}, media=MERGE)
    _, left = apiserver.request("PATCH", f"{path}/a", {"metadata": {"labels": {"x": None}}}, media=MERGE)
    assert "labels" not in left["metadata"]


def test_immutable_claim_replicas(apiserver: Any, namespace: str) -> None:
    """A CEL transition rule of our CRDs holds: replicas of a SandboxClaim cannot change."""
    path = f"/apis/agents.kruise.io/v1alpha1/namespaces/{namespace}/sandboxclaims"
    code, made = apiserver.request(
        "POST", path, ours("SandboxClaim", {"name": "c"}, {"templateName": "t", "replicas": 2})
    )
    assert code == 201, made
    code, status = apiserver.request("PATCH", f"{path}/c", {"spec": {"replicas": 3}}, media=MERGE)
    assert code == 422 and "replicas is immutable" in status["message"]


def test_patch_formats(apiserver: Any, namespace: str) -> None:
    """JSON patch and strategic merge patch do what their formats say; a failing JSON patch changes nothing."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    apiserver.request("POST", path, pod("a"))
    by_name = {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}
    _, got = apiserver.request("PATCH", f"{path}/a", by_name, media=STRATEGIC)
    assert [c["image"] for c in got["spec"]["containers"]] == ["i:2"]
    test = [{"op": "test", "path": "/spec/containers/0/image", "value": "no"}]
    assert apiserver.request("PATCH", f"{path}/a", test, media=JSON_PATCH)[0] == 422
    move = [
        {"op": "add", "path": "/metadata/labels", "value": {"a/b": "c"}},
        {"op": "remove", "path": "/metadata/labels/a~1b"},
    ]
    code, got = apiserver.request("PATCH", f"{path}/a", move, media=JSON_PATCH)
    assert code == 200 and "labels" not in got["metadata"]
    code, status = apiserver.request("PATCH", f"{path}/a", {"spec": {"nodeName": "other"}}, media=MERGE)
    assert code == 422 and "pod updates may not change fields" in status["message"]


def test_server_side_apply(apiserver: Any, namespace: str) -> None:
    """Apply creates, owns, removes what is no longer declared, and refuses another manager's field unless forced."""
    path = f"/api/v1/namespaces/{namespace}/configmaps/m"

    def apply(manager: str, data: dict[str, str], more: str = "") -> tuple[int, Any]:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data}
        return apiserver.request("PATCH", f"{path}?fieldManager={manager}{more}", body, media=APPLY)

    assert apply("one", {"a": "1", "b": "1"})[0] == 201
    code, got = apply("one", {"a": "1"})
    assert (code, got["data"]) == (200, {"a": "1"})
    code, status = apply("two", {"a": "2"})
    assert code == 409 and status["details"]["causes"][0] == {
        "reason": "FieldManagerConflict",
        "message": 'conflict with "one"',
        "field": ".data.a",
    }
    assert apply("two", {"a": "2"}, "&force=true")[1]["data"] == {"a": "2"}
    assert apply("one", {"c": "3"})[1]["data"] == {"a": "2", "c": "3"}


def test_dry_run_changes_nothing(apiserver: Any, namespace: str) -> None:
    """dryRun=All answers as if, and stores nothing."""
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    assert apiserver.request("POST", f"{path}?dryRun=All", {"metadata": {"name": "x"}})[0] == 201
    assert apiserver.request("GET", f"{path}/x")[0] == 404


def test_scale(apiserver: Any, namespace: str) -> None:
    """The scale subresource reads and writes spec.replicas."""
    path = SETS.format(namespace)
    apiserver.request("POST", path, ours("SandboxSet", {"name": "s"}, {"replicas": 1, "template": TEMPLATE}))
    _, got = apiserver.request("PATCH", f"{path}/s/scale", {"spec": {"replicas": 7}}, media=MERGE)
    assert (got["kind"], got["spec"]["replicas"]) == ("Scale", 7)
    assert apiserver.request("GET", f"{path}/s")[1]["spec"]["replicas"] == 7
