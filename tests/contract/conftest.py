"""The clusters that contract tests run against: the embedded API server, and a real kube-apiserver on etcd.

A test that asks for ``apiserver`` runs once against each; the real one has the marker ``realkube`` and is
only run by ``packaging/test.sh --all``. There is one server of each kind per test session, with the product's CRDs;
tests keep apart by namespaces of their own (``namespace``). ``own_apiserver`` starts one, of each kind in turn, for a
single test that stops, kills or fills it. ``embedded_apiserver`` and ``own_embedded`` are for what only the embedded
one promises.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import real_cluster
from api_servers import ApiServer, EmbeddedApiServer

KINDS = ["embedded", pytest.param("real", marks=pytest.mark.realkube)]


@pytest.fixture(scope="session")
def embedded_apiserver() -> Iterator[ApiServer]:
    """The session's embedded API server."""
    with tempfile.TemporaryDirectory(prefix="apiserver-") as directory:
        server = EmbeddedApiServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def etcd() -> Iterator[real_cluster.Etcd]:
    """The session's etcd."""
    if reason := real_cluster.missing():
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="etcd-") as directory:
        etcd = real_cluster.Etcd(Path(directory))
        etcd.start()
        try:
            yield etcd
        finally:
            etcd.stop()


@pytest.fixture(scope="session")
def real_apiserver(etcd: real_cluster.Etcd) -> Iterator[ApiServer]:
    """The session's kube-apiserver, with the controllers that finish deletions."""
    with tempfile.TemporaryDirectory(prefix="kube-") as directory:
        server = real_cluster.RealApiServer(Path(directory), etcd)
        try:
            server.start()
            server.run_controllers()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session", params=KINDS)
def apiserver(request: pytest.FixtureRequest) -> ApiServer:
    """The session's API server of each kind in turn: ``.listen``, ``.token``, ``.kubeconfig``, ``.request(…)``."""
    server: ApiServer = request.getfixturevalue(f"{request.param}_apiserver")
    return server


@pytest.fixture
def own_embedded(tmp_path: Path) -> Iterator[Callable[..., ApiServer]]:
    """A factory of embedded API servers for one test, on data directories of their own."""
    started: list[ApiServer] = []

    def make(**options: Any) -> ApiServer:
        server = EmbeddedApiServer(tmp_path / f"box{len(started)}", **options)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture
def own_real(tmp_path_factory: pytest.TempPathFactory, etcd: real_cluster.Etcd) -> Iterator[Callable[..., ApiServer]]:
    """A factory of kube-apiservers for one test, on prefixes of their own in the session's etcd."""
    started: list[ApiServer] = []

    def make(*, crds: bool = True) -> ApiServer:
        directory = tmp_path_factory.mktemp(f"kube-{secrets.token_hex(4)}")
        server = real_cluster.RealApiServer(directory, etcd, crds=crds)
        started.append(server)
        server.start()
        return server

    yield make
    for server in started:
        server.stop()


@pytest.fixture(params=KINDS)
def own_apiserver(request: pytest.FixtureRequest) -> Callable[..., ApiServer]:
    """A factory of API servers for one test, of each kind in turn."""
    make: Callable[..., ApiServer] = request.getfixturevalue(f"own_{request.param}")
    return make


@pytest.fixture
def namespace(apiserver: ApiServer) -> str:
    """A fresh namespace on the session's API server."""
    name = f"test-{secrets.token_hex(4)}"
    code, _ = apiserver.request(
        "POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    )
    assert code == 201
    return name
