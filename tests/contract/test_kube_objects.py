"""Contract of reads and writes: what appliance.kube relies on, against whatever API server the fixture offers."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from appliance.api.kinds import CONFIGMAP, SANDBOX, SANDBOXCLAIM, SANDBOXSET, SECRET
from appliance.config import KubeSettings
from appliance.kube import errors, serviceaccount
from appliance.kube.cluster import Cluster

TEMPLATE = {"spec": {"containers": [{"name": "sandbox", "image": "host"}]}}


@pytest.fixture
async def cluster(apiserver: Any) -> AsyncIterator[Cluster]:
    async with await Cluster.connect(KubeSettings(kubeconfig=apiserver.kubeconfig, page_size=7)) as cluster:
        yield cluster


def sandbox(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": name}}, "spec": {"template": TEMPLATE, **spec}}


async def test_an_object_lives_and_dies(cluster: Cluster, namespace: str) -> None:
    """Create, read, patch and delete keep uid, raise generation with the spec, and end in NotFound."""
    made = await cluster.create(SANDBOX, namespace, sandbox("a"))
    assert (made.name, made.meta.generation, made.spec.paused) == ("a", 1, False)
    patched = await cluster.patch(SANDBOX, namespace, "a", {"spec": {"paused": True}})
    assert (patched.uid, patched.meta.generation, patched.spec.paused) == (made.uid, 2, True)
    assert await cluster.get(SANDBOX, namespace, "a") == patched
    await cluster.delete(SANDBOX, namespace, "a")
    with pytest.raises(errors.NotFound):
        await cluster.get(SANDBOX, namespace, "a")
    with pytest.raises(errors.NotFound):
        await cluster.delete(SANDBOX, namespace, "a")


async def test_names_are_taken_once_and_generated_ones_differ(cluster: Cluster, namespace: str) -> None:
    """A second creation is AlreadyExists; generateName gives every object its own name."""
    await cluster.create(SANDBOX, namespace, sandbox("a"))
    with pytest.raises(errors.AlreadyExists):
        await cluster.create(SANDBOX, namespace, sandbox("a"))
    body = {"metadata": {"generateName": "gen-"}, "spec": {"template": TEMPLATE}}
    made = await asyncio.gather(*(cluster.create(SANDBOX, namespace, body) for _ in range(10)))
    assert len({one.name for one in made}) == 10
    assert all(one.name.startswith("gen-") for one in made)


async def test_of_many_guarded_writes_one_wins(cluster: Cluster, namespace: str) -> None:
    """Twenty merge patches guarded by the same version: one succeeds, nineteen are Conflict."""
    made = await cluster.create(SANDBOX, namespace, sandbox("a"))

    async def take(number: int) -> bool:
        patch = {"metadata": {"annotations": {"winner": str(number)}}}
        try:
            await cluster.patch(SANDBOX, namespace, "a", patch, resource_version=made.meta.resource_version)
        except errors.Conflict:
            return False
        return True

    outcome = await asyncio.gather(*(take(number) for number in range(20)))
    assert outcome.count(True) == 1
    final = await cluster.get(SANDBOX, namespace, "a")
    assert final.meta.annotations["winner"] == str(outcome.index(True))


async def test_replace_is_guarded_by_the_version_it_carries(cluster: Cluster, namespace: str) -> None:
    """Writing back an object that changed meanwhile is Conflict."""
    made = await cluster.create(SANDBOX, namespace, sandbox("a"), type=dict)
    await cluster.patch(SANDBOX, namespace, "a", {"spec": {"paused": True}})
    with pytest.raises(errors.Conflict):
        await cluster.replace(SANDBOX, namespace, "a", made)


async def test_merge_patches_remove_and_replace(cluster: Cluster, namespace: str) -> None:
    """null removes a key, lists are replaced as a whole: how a claim removes the owner."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "controller": True}
    keeper = await cluster.create(CONFIGMAP, namespace, {"metadata": {"name": "o"}})
    body = sandbox("a")
    body["metadata"]["ownerReferences"] = [{**owner, "uid": keeper.uid}]
    made = await cluster.create(SANDBOX, namespace, body)
    assert made.meta.controller is not None
    patch = {"metadata": {"ownerReferences": [], "labels": {"app": None, "new": "1"}}}
    patched = await cluster.patch(SANDBOX, namespace, "a", patch, resource_version=made.meta.resource_version)
    assert (patched.meta.owner_references, patched.meta.labels) == ([], {"new": "1"})


async def test_status_and_spec_are_written_apart(cluster: Cluster, namespace: str) -> None:
    """A status write leaves the spec and the generation alone, a spec write leaves the status alone."""
    await cluster.create(SANDBOX, namespace, sandbox("a"))
    mixed = {"spec": {"paused": True}, "status": {"phase": "Running", "observedGeneration": 1}}
    written = await cluster.patch(SANDBOX, namespace, "a", mixed, subresource="status")
    assert (written.spec.paused, written.status.phase, written.meta.generation) == (False, "Running", 1)
    mixed["status"]["phase"] = "Paused"
    written = await cluster.patch(SANDBOX, namespace, "a", mixed)
    assert (written.spec.paused, written.status.phase, written.meta.generation) == (True, "Running", 2)


async def test_scale_is_a_subresource(cluster: Cluster, namespace: str) -> None:
    """kubectl scale and autoscalers change replicas through it."""
    await cluster.create(
        SANDBOXSET, namespace, {"metadata": {"name": "s"}, "spec": {"replicas": 1, "template": TEMPLATE}}
    )
    await cluster.patch(SANDBOXSET, namespace, "s", {"spec": {"replicas": 3}}, subresource="scale", type=dict)
    assert (await cluster.get(SANDBOXSET, namespace, "s")).spec.replicas == 3


async def test_defaults_and_rules_of_the_crds_hold(cluster: Cluster, namespace: str) -> None:
    """Omitted fields are filled in; what the schema or a rule forbids is Invalid and names the field."""
    claim = await cluster.create(
        SANDBOXCLAIM, namespace, {"metadata": {"name": "c"}, "spec": {"templateName": "t"}}, type=dict
    )
    assert claim["spec"]["replicas"] == 1
    assert (claim["spec"]["claimTimeout"], claim["spec"]["createOnNoStock"]) == ("1m", True)
    with pytest.raises(errors.Invalid, match="replicas is immutable"):
        await cluster.patch(SANDBOXCLAIM, namespace, "c", {"spec": {"replicas": 2}})


@pytest.mark.parametrize(
    ("kind", "spec", "word"),
    [
        (SANDBOX, {}, "exactly one of"),
        (SANDBOX, {"template": TEMPLATE, "templateRef": {"name": "t"}}, "exactly one of"),
        (SANDBOX, {"template": TEMPLATE, "pauseStrategy": {"type": "Nap"}}, "spec.pauseStrategy.type"),
        (SANDBOX, {"template": TEMPLATE, "shutdownTime": "soon"}, "spec.shutdownTime"),
        (SANDBOX, {"template": TEMPLATE, "paused": "yes"}, "spec.paused"),
        (SANDBOXSET, {"template": TEMPLATE}, "spec.replicas"),
        (SANDBOXSET, {"template": TEMPLATE, "replicas": -1}, "spec.replicas"),
        (
            SANDBOXSET,
            {"template": TEMPLATE, "replicas": 1, "scaleStrategy": {"maxUnavailable": "many"}},
            "maxUnavailable",
        ),
        (SANDBOXCLAIM, {}, "spec.templateName"),
        (SANDBOXCLAIM, {"templateName": "t", "replicas": 0}, "spec.replicas"),
        (SANDBOXCLAIM, {"templateName": "t", "claimTimeout": "100ms"}, "spec.claimTimeout"),
    ],
)
async def test_bad_objects_are_refused_by_field(
    cluster: Cluster, namespace: str, kind: Any, spec: dict[str, Any], word: str
) -> None:
    """Invalid, with the field's path or the rule's message."""
    with pytest.raises(errors.Invalid, match=word):
        await cluster.create(kind, namespace, {"metadata": {"name": "bad"}, "spec": spec})


async def test_lists_come_in_consistent_pages(cluster: Cluster, namespace: str) -> None:
    """Thirty objects in pages of seven: each once, though others are created and deleted meanwhile."""
    bodies = [sandbox(f"s{number:02}") for number in range(30)]
    await asyncio.gather(*(cluster.create(SANDBOX, namespace, body) for body in bodies))
    listing = await cluster.list(SANDBOX, namespace)
    assert sorted(item.name for item in listing.items) == [body["metadata"]["name"] for body in bodies]
    assert listing.resource_version
    part = await cluster.list(SANDBOX, namespace, limit=10)
    assert (len(part.items), part.complete) == (10, False)


async def test_selectors_choose(cluster: Cluster, namespace: str) -> None:
    """Label and field selectors choose on the server, for lists."""
    for name in "abc":
        await cluster.create(SANDBOX, namespace, sandbox(name))
    chosen = await cluster.list(SANDBOX, namespace, label_selector="app in (a,b),app!=b")
    assert [item.name for item in chosen.items] == ["a"]
    chosen = await cluster.list(SANDBOX, namespace, field_selector="metadata.name=c")
    assert [item.name for item in chosen.items] == ["c"]


async def test_deletes_keep_their_preconditions(cluster: Cluster, namespace: str) -> None:
    """Another uid or an old version is Conflict and deletes nothing."""
    made = await cluster.create(SANDBOX, namespace, sandbox("a"))
    with pytest.raises(errors.Conflict):
        await cluster.delete(SANDBOX, namespace, "a", uid="00000000-0000-0000-0000-000000000000")
    patched = await cluster.patch(SANDBOX, namespace, "a", {"spec": {"paused": True}})
    with pytest.raises(errors.Conflict):
        await cluster.delete(SANDBOX, namespace, "a", resource_version=made.meta.resource_version)
    await cluster.delete(SANDBOX, namespace, "a", uid=made.uid, resource_version=patched.meta.resource_version)


async def test_finalizers_keep_an_object_until_they_are_gone(cluster: Cluster, namespace: str) -> None:
    """Deletion marks it; removing the last finalizer removes it."""
    body = sandbox("a")
    body["metadata"]["finalizers"] = ["agents.kruise.io/sandbox"]
    await cluster.create(SANDBOX, namespace, body)
    await cluster.delete(SANDBOX, namespace, "a")
    assert (await cluster.get(SANDBOX, namespace, "a")).meta.deletion_timestamp
    await cluster.patch(SANDBOX, namespace, "a", {"metadata": {"finalizers": None}})
    with pytest.raises(errors.NotFound):
        await cluster.get(SANDBOX, namespace, "a")


async def test_server_side_apply_creates_and_updates(cluster: Cluster, namespace: str) -> None:
    """Applying twice is one object; a field left out the second time is removed."""
    first = {"metadata": {"name": "s", "labels": {"a": "1"}}, "stringData": {"k": "v"}}
    made = await cluster.apply(SECRET, namespace, "s", first, manager="test", force=True)
    assert made.data == {"k": "dg=="}
    again = await cluster.apply(SECRET, namespace, "s", {"metadata": {"name": "s"}}, manager="test", force=True)
    assert (again.uid, again.meta.labels) == (made.uid, {})


async def test_an_absent_namespace_is_not_found(cluster: Cluster) -> None:
    """Creating into a namespace that does not exist says so."""
    with pytest.raises(errors.NotFound, match="namespace"):
        await cluster.create(SANDBOX, "no-such-namespace", sandbox("a"))


async def test_a_pods_service_account_opens_the_same_cluster(
    apiserver: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a kubeconfig the token, CA and address of a pod are used, and the token is read again by and by."""
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    entry = config["clusters"][0]["cluster"]
    server = urlsplit(entry["server"])
    if server.scheme != "https" or "token" not in config["users"][0]["user"]:
        pytest.skip("pods reach their API server by HTTPS with a token; this fixture offers something else")
    (tmp_path / "token").write_text(config["users"][0]["user"]["token"] + "\n")
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(entry["certificate-authority-data"]))
    monkeypatch.setattr(serviceaccount, "DIRECTORY", tmp_path)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", server.hostname or "")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    async with await Cluster.connect(KubeSettings()) as cluster:
        assert (await cluster.list(SANDBOX, namespace)).items == []
        assert (await cluster._transport._credentials.current()).renew_at is not None
