"""The cluster of the session: a real node made here, kind, or the one of ``KUBECONFIG``, with the product installed.

``cloud`` is how tests see it. Each test works in namespaces and with sandboxes of its own and removes them, so that the
order does not matter. ``node`` is for what only a node made here can do (stopping etcd, the API server, the kubelet).
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from realnode import cluster, foreign, roles
from realnode.__main__ import ROOT
from realnode.cluster import RealNode
from realnode.roles import Cloud


@pytest.fixture(scope="session")
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    """The installed product, its pool of the seed's template warm."""
    kind = request.config.getoption("--cluster")
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cluster-")))
        if kind == "node":
            if reason := cluster.missing():
                pytest.skip(reason)
            node = RealNode(work / work.name)  # its control groups are named after it
            stack.callback(node.down)
            installed = roles.start(node, work)
        elif kind == "up":
            installed = roles.attach(ROOT)
        else:
            if reason := foreign.missing(kind):
                pytest.skip(reason)
            installed = stack.enter_context(foreign.installed(kind, work))
        installed.apply(roles.seed(POOL))
        installed.await_pool("code-interpreter", POOL)
        yield installed


POOL = 4
"""Members of the seed's pool: its hundred, lowered for one node."""


@pytest.fixture
def node(cloud: Cloud) -> RealNode:
    """The node made here."""
    if not isinstance(cloud.cluster, RealNode):
        pytest.skip("stops parts of the control plane, which only --cluster=node allows")
    return cloud.cluster


@pytest.fixture
def sdk(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    """The cloud, with the SDK of this process pointed at it."""
    for name, value in cloud.env().items():
        monkeypatch.setenv(name, value)
    return cloud


@pytest.fixture
def namespace(cloud: Cloud) -> Iterator[str]:
    """A fresh namespace, removed afterwards with everything in it."""
    with fresh_namespace(cloud) as name:
        yield name


@contextlib.contextmanager
def fresh_namespace(cloud: Cloud) -> Iterator[str]:
    """The same for a block."""
    name = f"test-{secrets.token_hex(4)}"
    cloud.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cloud.kubectl("delete", "namespace", name, "--wait=false")


Case = Callable[[Cloud, str], None]
"""A check in a namespace of its own."""


@pytest.fixture(scope="session")
def cases() -> dict[Case, Future[None]]:
    """What has begun of the checks that run side by side."""
    return {}


@pytest.fixture(scope="session")
def outcomes(
    cloud: Cloud, cases: dict[Case, Future[None]], request: pytest.FixtureRequest
) -> Iterator[dict[Case, Future[None]]]:
    """What becomes of each selected ``case``. They mostly wait, for timers and for the kubelet, so all of them begin
    with the first test that asks, and wait beside each other and beside the tests that come next; ``result()`` is the
    end of one, or its failure. Whoever disturbs the cluster asks for ``undisturbed`` and so waits for them.
    """

    def run(case: Case) -> None:
        with fresh_namespace(cloud) as name:
            case(cloud, name)

    asking = [item for item in request.session.items if "outcomes" in getattr(item, "fixturenames", ())]
    wanted: list[Case] = [item.callspec.params["case"] for item in asking if hasattr(item, "callspec")]
    with ThreadPoolExecutor(max(1, len(wanted))) as pool:
        cases |= {case: pool.submit(run, case) for case in wanted}
        yield cases


@pytest.fixture
def undisturbed(cases: dict[Case, Future[None]]) -> None:
    """Nothing waits beside this test for what it is about to stop: every check that has begun is over."""
    wait(cases.values())
