"""Two calls at once on one sandbox: each is answered as the table of §1.10 allows, nothing hangs, one truth remains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from boxes import RunningBox

pytestmark = [pytest.mark.box, pytest.mark.timeout(180)]
ROUNDS = 3
Call = tuple[str, str, dict[str, Any]]
PAUSE: Call = ("POST", "pause", {})
PAUSE_FILES: Call = ("POST", "pause", {"memory": False})
CONNECT: Call = ("POST", "connect", {"timeout": 120})
CONNECT_LONG: Call = ("POST", "connect", {"timeout": 600})
RESUME: Call = ("POST", "resume", {"timeout": 120})
TIMEOUT: Call = ("POST", "timeout", {"timeout": 90})
KILL: Call = ("DELETE", "", {})


class Racer:
    """Sandboxes through the raw API."""

    def __init__(self, api: httpx.AsyncClient) -> None:
        self.api = api

    async def create(self, *, paused: bool) -> str:
        """A running, or paused, sandbox."""
        answer = await self.api.post("/v2/sandboxes", json={"templateID": "code-interpreter", "timeout": 60})
        assert answer.status_code == 201, answer.text
        sandbox_id = str(answer.json()["sandboxID"])
        assert not paused or await self.call(sandbox_id, PAUSE) == 204
        return sandbox_id

    async def call(self, sandbox_id: str, call: Call) -> int:
        """The status of one call; every refusal is JSON with its code."""
        method, action, body = call
        path = f"/sandboxes/{sandbox_id}" + (f"/{action}" if action else "")
        answer = await self.api.request(method, path, json=body if method == "POST" else None)
        assert answer.status_code < 400 or answer.json()["code"] == answer.status_code
        return answer.status_code

    async def race(self, sandbox_id: str, *calls: Call) -> tuple[int, ...]:
        """All of them at once; their statuses."""
        return tuple(await asyncio.gather(*(self.call(sandbox_id, one) for one in calls)))

    async def detail(self, sandbox_id: str) -> httpx.Response:
        """What the API says of it now."""
        return await self.api.get(f"/sandboxes/{sandbox_id}")


@pytest.fixture
async def racer(box: RunningBox) -> AsyncIterator[Racer]:
    """The session's box."""
    headers = {"X-API-Key": box.env["E2B_API_KEY"]}
    async with httpx.AsyncClient(
        base_url=box.env["E2B_API_URL"], headers=headers, timeout=60, trust_env=False
    ) as client:
        yield Racer(client)


@pytest.mark.parametrize(
    ("paused", "other", "allowed"),
    [
        *((False, PAUSE, {204, 404}), (False, PAUSE_FILES, {204, 404}), (False, TIMEOUT, {204, 404})),
        *((True, CONNECT, {201, 404}), (True, RESUME, {201, 404}), (False, CONNECT, {200, 404})),
        (False, KILL, {204, 404}),
    ],
    ids=["pause", "pause-files", "timeout", "connect", "resume", "connect-running", "kill"],
)
async def test_a_kill_wins_against_everything(racer: Racer, paused: bool, other: Call, allowed: set[int]) -> None:
    """The kill is 204, the other call succeeds or finds nothing, and afterwards there is nothing."""
    for _ in range(ROUNDS):
        sandbox_id = await racer.create(paused=paused)
        killed, status = await racer.race(sandbox_id, KILL, other)
        assert killed in ({204, 404} if other is KILL else {204}) and status in allowed
        assert 204 in (killed, status) and (await racer.detail(sandbox_id)).status_code == 404
        assert await racer.call(sandbox_id, KILL) == 404


async def test_connects_share_one_resume(racer: Racer) -> None:
    """Three at once on a paused sandbox: all succeed, one run begins, and it lasts as long as the longest asked."""
    for _ in range(ROUNDS):
        sandbox_id = await racer.create(paused=True)
        statuses = await racer.race(sandbox_id, CONNECT, CONNECT_LONG, CONNECT)
        assert set(statuses) <= {200, 201} and 201 in statuses
        told = (await racer.detail(sandbox_id)).json()
        left = datetime.fromisoformat(told["endAt"]) - datetime.now(UTC)
        assert told["state"] == "running" and left.total_seconds() > 550
        assert await racer.call(sandbox_id, KILL) == 204


async def test_pauses_of_two_kinds_do_not_mix(racer: Racer) -> None:
    """One kind wins, the other is 409 unless it is the same; pauseMode is the winner's."""
    for calls in ((PAUSE, PAUSE, PAUSE), (PAUSE, PAUSE_FILES), (PAUSE_FILES, PAUSE)):
        sandbox_id = await racer.create(paused=False)
        statuses = await racer.race(sandbox_id, *calls)
        assert set(statuses) <= {204, 409} and 204 in statuses
        won = {call is PAUSE for call, status in zip(calls, statuses, strict=True) if status == 204}
        assert len(won) == 1
        assert (await racer.detail(sandbox_id)).json()["pauseMode"] == ("full" if won.pop() else "filesystem")
        assert await racer.call(sandbox_id, KILL) == 204


async def test_a_pause_against_a_connect_ends_in_one_state(racer: Racer) -> None:
    """Whatever comes first, both are answered, the state is a plain one, and the sandbox can be connected to."""
    for paused in (False, True):
        for _ in range(ROUNDS):
            sandbox_id = await racer.create(paused=paused)
            pause, connect = await racer.race(sandbox_id, PAUSE, CONNECT)
            assert pause in {204, 409} and connect in {200, 201}
            assert (await racer.detail(sandbox_id)).json()["state"] in {"running", "paused"}
            assert await racer.call(sandbox_id, CONNECT) in {200, 201}
            assert (await racer.detail(sandbox_id)).json()["state"] == "running"
            assert await racer.call(sandbox_id, KILL) == 204
