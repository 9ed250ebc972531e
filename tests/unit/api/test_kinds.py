"""Paths of kinds, and what their structs read."""

import msgspec
import pytest

from appliance.api import kinds


def test_paths_of_core_and_group_kinds() -> None:
    """Collections, objects, subresources and cluster-scoped kinds have the paths Kubernetes serves."""
    assert kinds.SANDBOX.path(None) == "/apis/agents.kruise.io/v1alpha1/sandboxes"
    assert kinds.SANDBOX.path("a", "b", "status") == "/apis/agents.kruise.io/v1alpha1/namespaces/a/sandboxes/b/status"
    assert kinds.POD.path("a") == "/api/v1/namespaces/a/pods"
    assert kinds.NODE.path(None, "box") == "/api/v1/nodes/box"
    assert kinds.LEASE.path("a", "b") == "/apis/coordination.k8s.io/v1/namespaces/a/leases/b"


def test_hostile_names_cannot_leave_their_place_in_the_path() -> None:
    """Slashes, dots with slashes and queries in a name are escaped."""
    assert kinds.POD.path("a", "../x?y") == "/api/v1/namespaces/a/pods/..%2Fx%3Fy"


@pytest.mark.parametrize(
    ("kind", "arguments", "word"),
    [
        (kinds.POD, (None, "x"), "namespace"),
        (kinds.POD, ("", "x"), "namespace"),
        (kinds.NODE, ("a", "x"), "namespace"),
        (kinds.POD, ("a", ""), "name"),
        (kinds.POD, ("a", None, "status"), "subresource"),
    ],
)
def test_impossible_addresses_are_refused(kind: kinds.Kind, arguments: tuple, word: str) -> None:
    """The error names the parameter that does not fit."""
    with pytest.raises(ValueError, match=f"^{word}:"):
        kind.path(*arguments)


def test_every_kind_reads_an_empty_object() -> None:
    """Defaults cover everything a server may leave out."""
    for kind in kinds.ALL:
        item = msgspec.json.decode(b'{"metadata":{"name":"x"}}', type=kind.struct)
        assert item.key == ("", "x")


def test_fields_with_unusual_capitals_are_read() -> None:
    """podIP, podUID, sandboxID, imageID and mountID do not follow the camelCase rule and are read all the same."""
    pod = msgspec.json.decode(
        b'{"status":{"podIP":"1.2.3.4","containerStatuses":[{"name":"c","imageID":"i"}]}}', type=kinds.POD.struct
    )
    assert (pod.status.pod_ip, pod.status.container_statuses[0].image_id) == ("1.2.3.4", "i")
    sbx = msgspec.json.decode(b'{"status":{"podInfo":{"podIP":"1","podUID":"u"}}}', type=kinds.SANDBOX.struct)
    assert (sbx.status.pod_info.pod_ip, sbx.status.pod_info.pod_uid) == ("1", "u")
    claim = msgspec.json.decode(
        b'{"spec":{"dynamicVolumesMount":[{"mountPath":"/m","mountID":"1"}]},'
        b'"status":{"claimedSandboxes":[{"name":"a","sandboxID":"i1"}]}}',
        type=kinds.SANDBOXCLAIM.struct,
    )
    assert claim.status.claimed_sandboxes[0].sandbox_id == "i1"
    assert claim.spec.dynamic_volumes_mount[0].mount_id == "1"


def test_rolling_updates_are_bounded_by_default() -> None:
    """updateStrategy is 20% when absent or empty; scaleStrategy has no limit."""
    for body in (b'{"spec":{"replicas":1}}', b'{"spec":{"replicas":1,"updateStrategy":{}}}'):
        pool = msgspec.json.decode(body, type=kinds.SANDBOXSET.struct)
        assert pool.spec.update_strategy.max_unavailable == "20%"
        assert pool.spec.scale_strategy.max_unavailable is None
