"""The life of a sandbox through the Python SDK, sync and async, on a real box: contract §1.9, §1.10, §1.13, §1.17."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from boxes import RunningBox
from e2b import AsyncSandbox, Sandbox, SandboxQuery, SandboxState
from e2b.exceptions import NotFoundException, SandboxException

pytestmark = pytest.mark.box
TEMPLATE = "code-interpreter"


@pytest.fixture(scope="module")
def options(box: RunningBox) -> dict[str, Any]:
    """How the SDK reaches the box."""
    env = box.env
    return {"api_key": env["E2B_API_KEY"], "api_url": env["E2B_API_URL"], "sandbox_url": env["E2B_SANDBOX_URL"]}


@pytest.fixture(scope="module")
def api(options: dict[str, Any]) -> Iterator[httpx.Client]:
    """The control API, raw."""
    headers = {"X-API-Key": options["api_key"]}
    with httpx.Client(base_url=options["api_url"], headers=headers, timeout=30, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def plane(options: dict[str, Any]) -> Iterator[httpx.Client]:
    """The data plane, raw, with no credentials."""
    with httpx.Client(base_url=options["sandbox_url"], timeout=30, trust_env=False) as client:
        yield client


def at(sandbox: Sandbox, port: int, **more: str) -> dict[str, str]:
    """The headers that route to a sandbox's port."""
    return {"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": str(port), **more}


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Ask again until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.05)


def test_the_lifecycle_table(options: dict[str, Any], api: httpx.Client) -> None:
    """Every operation in every state gives the status of §1.10; deadlines move as it says."""
    sandbox = Sandbox.create(TEMPLATE, timeout=60, **options)
    path = f"/sandboxes/{sandbox.sandbox_id}"

    def post(action: str, **body: Any) -> int:
        return api.post(f"{path}/{action}", json=body).status_code

    def left() -> float:
        return (sandbox.get_info().end_at - datetime.now(UTC)).total_seconds()

    try:
        assert post("timeout", timeout=30) == 204 and 20 < left() < 32
        assert post("refreshes", duration=5) == 204 and left() < 32
        assert post("refreshes", duration=100) == 204 and 90 < left() < 102
        assert post("connect", timeout=10) == 200 and left() > 90
        assert api.post(f"/v2{path}/connect", json={}).status_code == 200 and left() > 290
        assert post("resume", timeout=10) == 409
        token = api.post(f"/v2{path}/connect").json()["envdAccessToken"]
        assert (sandbox.pause(), sandbox.pause()) == (True, False)
        detail = api.get(path).json()
        assert (detail["state"], detail["pauseMode"]) == ("paused", "full")
        assert not sandbox.is_running()
        assert (post("timeout", timeout=30), post("refreshes", duration=30)) == (404, 404)
        assert api.put(f"{path}/network", json={}).status_code == 404
        query = SandboxQuery(state=[SandboxState.PAUSED])
        assert sandbox.sandbox_id in [one.sandbox_id for one in Sandbox.list(query=query, **options).next_items()]
        resumed = api.post(f"{path}/connect", json={"timeout": 60})
        assert resumed.status_code == 201 and resumed.json()["envdAccessToken"] == token
        assert left() < 62 and sandbox.is_running()
    finally:
        assert sandbox.kill() is True
    assert sandbox.kill() is False and not sandbox.is_running()
    assert api.get(path).json() == {
        "code": 404,
        "message": f"Sandbox \"{sandbox.sandbox_id}\" doesn't exist or you don't have access to it",
    }
    for action in ("connect", "pause", "timeout", "resume"):
        assert post(action, timeout=5) == 404
    with pytest.raises(NotFoundException):
        sandbox.set_timeout(10)


def test_a_pause_keeps_memory_and_everything_set_at_creation(options: dict[str, Any]) -> None:
    """Processes, boot id, environment, metadata and streams survive; concurrent pauses share one."""
    metadata = {"a b": "c&d=e", "ü": "%41+ x/"}
    with Sandbox.create(TEMPLATE, timeout=60, metadata=metadata, envs={"X": "1"}, **options) as sandbox:
        counting = sandbox.commands.run("while :; do echo x; sleep 0.1; done", background=True)
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = sandbox.commands.run(boot).stdout
        paused: list[bool] = []
        threads = [threading.Thread(target=lambda: paused.append(sandbox.pause())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert paused == [True] * 3
        again = Sandbox.connect(sandbox.sandbox_id, timeout=60, **options)
        assert again.commands.run(f"{boot}; echo $X").stdout == f"{before}1\n"
        assert counting.pid in [one.pid for one in again.commands.list()]
        assert again.get_info().metadata == metadata
        found = Sandbox.list(query=SandboxQuery(metadata=metadata), **options).next_items()
        assert [one.sandbox_id for one in found] == [sandbox.sandbox_id]


def test_a_timeout_pauses_and_traffic_wakes(options: dict[str, Any], plane: httpx.Client) -> None:
    """Auto-pause; a caller without the token is 403 and wakes nothing, one with it is served, body and all."""
    lifecycle: Any = {"on_timeout": "pause", "auto_resume": True}
    sandbox = Sandbox.create(TEMPLATE, timeout=2, lifecycle=lifecycle, **options)
    try:
        until(lambda: sandbox.get_info().state is SandboxState.PAUSED)
        for shown in ({}, {"X-Access-Token": "wrong"}):
            answer = plane.post("/process.Process/List", headers=at(sandbox, 49983, **shown), json={})
            assert answer.status_code == 403
            assert answer.json()["message"].startswith("This sandbox can't be resumed with the credentials provided")
        assert sandbox.get_info().state is SandboxState.PAUSED
        sandbox.files.write("/home/user/woken", "x" * 300_000)
        info = sandbox.get_info()
        assert info.state is SandboxState.RUNNING and info.lifecycle == lifecycle
        assert info.end_at - datetime.now(UTC) > timedelta(seconds=250)
        assert len(sandbox.files.read("/home/user/woken")) == 300_000
    finally:
        sandbox.kill()


def test_a_kill_ends_streams_and_health_says_so(options: dict[str, Any], plane: httpx.Client) -> None:
    """The running command's stream is reset at once, and /health is 502 with the proxy's body."""
    sandbox = Sandbox.create(TEMPLATE, timeout=60, **options)
    started, raised = threading.Event(), []

    def run() -> None:
        try:
            sandbox.commands.run("echo started; sleep 60", on_stdout=lambda _: started.set())
        except SandboxException as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(10)
    sandbox.kill()
    thread.join(5)
    assert not thread.is_alive() and "killed or reached its end of life" in str(raised[0])
    answer = plane.get("/health", headers=at(sandbox, 49983))
    expected = {"sandboxId": sandbox.sandbox_id, "message": "The sandbox was not found", "code": 502}
    assert (answer.status_code, answer.json()) == (502, expected)


def test_logs_and_metrics_tell_the_life_and_outlast_it(options: dict[str, Any], api: httpx.Client) -> None:
    """Samples are the sandbox's own, not the box's; a window in the past is empty; all is readable after the kill."""
    sandbox = Sandbox.create(TEMPLATE, timeout=60, **options)
    until(lambda: bool(sandbox.get_metrics()))
    now = datetime.now(UTC)
    inside = sandbox.get_metrics(start=now - timedelta(minutes=1), end=now + timedelta(seconds=5))
    info = sandbox.get_info()
    for one in inside:
        assert (one.cpu_count, one.mem_total) == (info.cpu_count, info.memory_mb << 20)
        assert 0 < one.mem_used < one.mem_total and 0 < one.disk_used < one.disk_total
    assert inside
    assert sandbox.get_metrics(start=now - timedelta(days=2), end=now - timedelta(days=1)) == []
    told = api.get(f"/sandboxes/{sandbox.sandbox_id}").json()["diskSizeMB"] * 1024**2
    assert 0.95 * told < inside[0].disk_total <= told
    sandbox.kill()
    path = f"/sandboxes/{sandbox.sandbox_id}"
    messages = [one["message"] for one in api.get(f"/v2{path}/logs").json()["logs"]]
    assert messages[0] == "Sandbox created" and messages[-1] == "Sandbox killed"
    assert api.get(f"{path}/metrics").json()


async def test_the_async_sdk_lives_the_same_life(options: dict[str, Any]) -> None:
    """Eight sandboxes at once from a pool of four: each has its own owner, pauses, resumes, and is gone at the end."""
    made = await asyncio.gather(*(AsyncSandbox.create(TEMPLATE, timeout=60, **options) for _ in range(8)))
    assert len({one.sandbox_id for one in made}) == len(made)

    async def live(one: AsyncSandbox) -> str:
        assert await one.is_running() and await one.pause() and not await one.is_running()
        await one.connect(timeout=60)
        return (await one.commands.run("echo $E2B_SANDBOX_ID")).stdout.strip()

    try:
        assert await asyncio.gather(*(live(one) for one in made)) == [one.sandbox_id for one in made]
    finally:
        assert await asyncio.gather(*(one.kill() for one in made)) == [True] * len(made)
    assert not any(await asyncio.gather(*(one.is_running() for one in made)))
