"""Two managers on one box: either answers for any sandbox; one that is killed leaves nothing unanswered behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from boxes import RunningBox, environment, free_port
from waiting import eventually

pytestmark = [pytest.mark.box, pytest.mark.timeout(180)]
CREATE = {"templateID": "code-interpreter", "timeout": 120}


class Manager:
    """A further manager of a box, as a second replica would be."""

    def __init__(self, box: RunningBox, directory: Path) -> None:
        self._box, self._directory = box, directory
        (directory / "run").mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.log = directory / "manager.log"
        self.client = httpx.Client()

    def start(self) -> None:
        """Begin to serve, on a port of its own."""
        url = f"http://127.0.0.1:{(port := free_port())}"
        kubeconfig = str(self._box.data_dir / "run" / "manager.kubeconfig")
        command = [sys.executable, "-m", "appliance", "--role=manager", "--kubeconfig", kubeconfig]
        command += ["--data-dir", str(self._directory), "--listen", f"127.0.0.1:{port}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log)
        headers = {"X-API-Key": self._box.env["E2B_API_KEY"]}
        self.client.close()
        self.client = httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False)
        eventually(self._healthy, 60)

    def _healthy(self) -> bool:
        try:
            return self.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """As if by the kernel: no clean-up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None


@pytest.fixture
def second(box: RunningBox, tmp_path: Path) -> Iterator[Manager]:
    """A second manager of the session's box, running."""
    manager = Manager(box, tmp_path)
    manager.start()
    yield manager
    manager.kill()
    manager.client.close()


@pytest.fixture
def first(box: RunningBox) -> Iterator[httpx.Client]:
    """The API of the box's own manager."""
    headers = {"X-API-Key": box.env["E2B_API_KEY"]}
    with httpx.Client(base_url=box.env["E2B_API_URL"], headers=headers, timeout=60, trust_env=False) as client:
        yield client


def lines(client: httpx.Client, sandbox_id: str) -> list[str]:
    """The messages of a sandbox's log as one manager tells them."""
    found = client.get(f"/v2/sandboxes/{sandbox_id}/logs")
    return [one["message"] for one in found.json()["logs"]] if found.status_code == 200 else []


def test_either_manager_answers_for_any_sandbox(first: httpx.Client, second: Manager) -> None:
    """Found at once, metrics and logs on both while it lives and after its end, whichever manager ended it."""
    sandbox_id = first.post("/v2/sandboxes", json=CREATE).json()["sandboxID"]
    assert second.client.get(f"/sandboxes/{sandbox_id}").status_code == 200
    both: list[Callable[[str], httpx.Response]] = [first.get, second.client.get]
    for get in both:
        eventually(lambda get=get: bool(get(f"/sandboxes/{sandbox_id}/metrics").json()))  # type: ignore[misc]
    assert second.client.post(f"/sandboxes/{sandbox_id}/pause").status_code == 204
    assert first.post(f"/v2/sandboxes/{sandbox_id}/connect", json={}).status_code == 201
    assert second.client.delete(f"/sandboxes/{sandbox_id}").status_code == 204
    eventually(lambda: first.get(f"/sandboxes/{sandbox_id}").status_code == 404)
    for client, end in ((first, "Sandbox ended"), (second.client, "Sandbox killed")):
        eventually(lambda client=client, end=end: lines(client, sandbox_id)[-1:] == [end])  # type: ignore[misc]
        told = lines(client, sandbox_id)
        assert told[0] == "Sandbox created" and "Sandbox paused" in told and "Sandbox resumed" in told
        assert client.get(f"/sandboxes/{sandbox_id}/metrics").json()


def test_an_idempotency_key_holds_across_managers_and_a_killed_one(first: httpx.Client, second: Manager) -> None:
    """The same sandbox from both, at once and after a restart; another body is 422 on both."""
    key = {"Idempotency-Key": f"two-{os.getpid()}"}
    body = {**CREATE, "envVars": {"A": "1"}}
    made = first.post("/v2/sandboxes", json=body, headers=key)
    assert made.status_code == 201
    sandbox_id = made.json()["sandboxID"]
    try:
        again = second.client.post("/v2/sandboxes", json=body, headers=key)
        assert (again.status_code, again.json()) == (201, made.json())
        second.kill()
        second.start()
        again = second.client.post("/v2/sandboxes", json=body, headers=key)
        assert (again.status_code, again.json()) == (201, made.json())
        for client in (first, second.client):
            assert client.post("/v2/sandboxes", json={**body, "timeout": 121}, headers=key).status_code == 422
    finally:
        assert first.delete(f"/sandboxes/{sandbox_id}").status_code == 204


def test_a_manager_killed_in_the_middle_of_creates_leaves_nothing_unanswered(
    first: httpx.Client, second: Manager
) -> None:
    """What it had taken and not answered for is killed when it starts again; what it had answered lives on."""
    mark = {"killed-in-the-middle": str(os.getpid())}

    def create() -> str | None:
        try:
            answer = second.client.post("/v2/sandboxes", json={**CREATE, "metadata": mark})
        except httpx.TransportError:
            return None
        return str(answer.json()["sandboxID"]) if answer.status_code == 201 else None

    def alive() -> set[str]:
        query: dict[str, Any] = {"metadata": "&".join(f"{key}={value}" for key, value in mark.items())}
        return {one["sandboxID"] for one in first.get("/v2/sandboxes", params=query).json()}

    def starting() -> bool:
        """A sandbox that is made for a create which waits for it."""
        return 'appliance_sandboxes{state="starting"} 0' not in first.get("/metrics").text

    with ThreadPoolExecutor(12) as pool:
        answers = [pool.submit(create) for _ in range(12)]
        eventually(starting)
        second.kill()
        answered = {found for one in answers if (found := one.result()) is not None}
    try:
        assert len(answered) < 12
        second.start()
        assert "taken by a manager that died before it answered: killed" in second.log.read_text()
        eventually(lambda: alive() == answered)
    finally:
        for sandbox_id in alive():
            first.delete(f"/sandboxes/{sandbox_id}")
