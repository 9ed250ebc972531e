"""The rendered manifests against a real kube-apiserver with RBAC: accepted, and enough for the roles' accounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import real_cluster
import yaml
from kubectl import Kubectl

from appliance.install.command import manifests
from appliance.install.values import parse


@pytest.fixture
def kubectl(tmp_path: Path) -> Iterator[Kubectl]:
    """kubectl as administrator of a real API server."""
    missing = real_cluster.missing()
    if missing:
        pytest.skip(missing)
    for name in ("etcd", "api"):
        (tmp_path / name).mkdir()
    etcd = real_cluster.Etcd(tmp_path / "etcd")
    etcd.start()
    try:
        server = real_cluster.RealApiServer(tmp_path / "api", etcd)
        server.start()
        try:
            yield Kubectl(server.kubeconfig)
        finally:
            server.stop()
    finally:
        etcd.stop()


@pytest.mark.realkube
def test_a_real_api_server_takes_every_manifest(kubectl: Kubectl) -> None:
    """Server-side apply with strict validation takes all of them, twice, and the accounts may do what was rendered."""
    values = {"domain": "sandboxes.example", "tls": {"secretName": "tls"}, "createNamespace": True}
    values |= {"ingress": {"enabled": True}, "apiKey": "e2b_" + "5" * 40}
    stream = yaml.safe_dump_all(manifests(parse(values)))
    for _ in range(2):
        kubectl("apply", "--server-side", "--force-conflicts", "--validate=strict", "-f", "-", stdin=stream)
    account = "--as=system:serviceaccount:sandbox-system:sandbox-manager"
    assert kubectl("auth", "can-i", "patch", "sandboxes.agents.kruise.io", "-n", "default", account).strip() == "yes"
    assert kubectl.try_("auth", "can-i", "list", "secrets", "-n", "default", account).stdout.strip() == "no"
