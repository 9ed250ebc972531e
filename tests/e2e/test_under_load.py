"""kill -9 of every role, one after another, while twenty clients create, run commands and code, and kill.

Afterwards: what was acknowledged is true, no id went to two clients, the pool is full, nothing is orphaned, and the
clients met nothing worse than an outage.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from boxes import RunningBox
from e2b_code_interpreter import Sandbox
from kubectl import Kubectl
from load import Clients, Pledges

pytestmark = [pytest.mark.box, pytest.mark.kubectl, pytest.mark.timeout(300)]

CLIENTS = 20
POOL = 4
KEEP_EVERY = 12
"""Each client keeps every twelfth sandbox, so that there is something to lose."""


def eventually(check: Callable[[], object], timeout: float = 60) -> None:
    """Wait until ``check`` returns something empty; the failure shows what was left."""
    deadline = time.monotonic() + timeout
    while left := check():
        assert time.monotonic() < deadline, f"{check.__doc__} not within {timeout} s: {left}"
        time.sleep(0.2)


def objects(box: RunningBox, kind: str) -> list[dict[str, object]]:
    """All objects of a kind, as the API server has them."""
    found: list[dict[str, object]] = json.loads(Kubectl(box.kubeconfig)("get", kind, "-A", "-o", "json"))["items"]
    return found


def processes_of(box: RunningBox) -> set[str]:
    """Uids of the pods that have a directory with a living process on the node."""
    return {path.name for path in (box.data_dir / "node" / "pods").iterdir()}


def test_every_role_killed_under_load(start_box: Callable[..., RunningBox], monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty clients, four kill -9: acknowledged sandboxes live with their memory, ids are unique, nothing is left."""
    if "APPLIANCE_TEST_KUBECTL" not in os.environ:
        pytest.skip("APPLIANCE_TEST_KUBECTL is unset; packaging/test.sh builds kubectl and sets it")
    box = start_box(pool=POOL)
    for name, value in box.env.items():
        monkeypatch.setenv(name, value)
    with Clients(CLIENTS, keep_every=KEEP_EVERY) as clients:
        clients.wait_for_rounds(10)
        for role in ("manager", "controller", "node", "apiserver"):
            pid = box.role_pid(role)
            os.kill(pid, signal.SIGKILL)
            box.role_pid(role, other_than=pid)
            clients.wait_for_rounds(CLIENTS)
    pledges = clients.pledges
    assert not pledges.faults
    assert [made for made, times in pledges.delivered.items() if times > 1] == []
    _acknowledged_is_true(pledges)
    _nothing_is_orphaned(box, pledges)


def _acknowledged_is_true(pledges: Pledges) -> None:
    """Every sandbox that a client was given and did not kill answers, with what the client left in it."""

    def lost(item: tuple[str, str]) -> str:
        made, mark = item
        sandbox = Sandbox.connect(made)
        assert sandbox.commands.run("echo here").stdout == "here\n"
        text = sandbox.run_code("mark").text if mark else ""
        return "" if mark in (text or "") else f"{made}: {text!r}"

    assert len(pledges.alive) > 0
    with ThreadPoolExecutor(8) as threads:
        assert [made for made in threads.map(lost, pledges.alive.items()) if made] == []


def _nothing_is_orphaned(box: RunningBox, pledges: Pledges) -> None:
    """Once the dust settles there are the kept sandboxes, a full pool, one pod for each, and no directory more."""

    def unknown() -> object:
        """claimed are only kept sandboxes, and at most one for each create whose answer was lost"""
        claimed = {sbx["metadata"]["labels"].get("agents.kruise.io/sandbox-id") for sbx in objects(box, "sbx")}
        strangers = claimed - {None, ""} - set(pledges.alive)
        return strangers if len(strangers) > pledges.unanswered else None

    def missing() -> object:
        """the pool is full"""
        pool = next(item for item in objects(box, "sbs") if item["metadata"]["name"] == "code-interpreter")
        return POOL - pool["status"].get("availableReplicas", 0)

    def stray() -> object:
        """pods and sandboxes pair up, and the node holds no other"""
        names = {item["metadata"]["name"] for item in objects(box, "sbx")}
        pods = objects(box, "pods")
        return ({pod["metadata"]["name"] for pod in pods} ^ names) | (
            processes_of(box) ^ {pod["metadata"]["uid"] for pod in pods}
        )

    for check in (unknown, missing, stray):
        eventually(check)
