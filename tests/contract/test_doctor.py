"""``appliance doctor`` on both API servers, well and broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from api_servers import ApiServer
from kubectl import Kubectl

from appliance.config import KubeSettings
from appliance.doctor import cluster as doctor
from appliance.doctor.findings import FAIL, OK, SKIP, WARN, Finding
from appliance.kube.cluster import Cluster

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def examined(kubeconfig: Path, purpose: str = "install") -> dict[str, Finding]:
    """Check → finding."""

    async def look() -> dict[str, Finding]:
        async with await Cluster.connect(KubeSettings(kubeconfig=kubeconfig)) as cluster:
            return {one.check: one async for one in doctor.examine(cluster, purpose)}

    return asyncio.run(look())


def test_definitions_and_version(own_apiserver: Callable[..., ApiServer]) -> None:
    """Present and current; one changed; one missing: each is told from the others."""
    server = own_apiserver()
    found = examined(server.kubeconfig)
    assert found["cluster.version"].status == OK
    assert found["cluster.clock"].status == OK
    assert found["cluster.definitions"].status == OK, found["cluster.definitions"]
    name = "checkpoints.agents.kruise.io"
    _, crd = server.request("GET", f"{CRDS}/{name}")
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["older"] = {"type": "string"}
    assert server.request("PUT", f"{CRDS}/{name}", crd)[0] == 200
    changed = examined(server.kubeconfig)["cluster.definitions"]
    assert (changed.status, name in changed.message) == (WARN, True)
    assert server.request("DELETE", f"{CRDS}/{name}")[0] == 200
    missing = examined(server.kubeconfig)["cluster.definitions"]
    assert (missing.status, f"missing: {name}" in missing.message) == (FAIL, True)
    assert "appliance install --apply" in missing.mend


def test_a_box_grants_its_administrator_everything(embedded_apiserver: ApiServer) -> None:
    """The embedded API server answers access reviews as a real one does."""
    assert examined(embedded_apiserver.kubeconfig)["cluster.permissions.install"].status == OK


@pytest.mark.realkube
def test_permissions_are_those_of_the_account(real_apiserver: ApiServer, tmp_path: Path) -> None:
    """An administrator may install; an account without rights is told what it may not, and who can give it."""
    assert examined(real_apiserver.kubeconfig)["cluster.permissions.install"].status == OK
    kubectl = Kubectl(real_apiserver.kubeconfig)
    kubectl("create", "serviceaccount", "nobody", "-n", "default")
    config: dict[str, Any] = json.loads(real_apiserver.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": kubectl("create", "token", "nobody", "-n", "default").strip()}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    found = examined(path, "manager")
    assert found["cluster.permissions.manager"].status == FAIL
    assert "create sandboxes.agents.kruise.io" in found["cluster.permissions.manager"].message
    assert "appliance install --apply" in found["cluster.permissions.manager"].mend
    assert found["cluster.definitions"].status == SKIP
    assert found["cluster.nodes"].status == SKIP
