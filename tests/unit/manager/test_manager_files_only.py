"""Pauses without memory through the API: asked for by pause, connect and autoPauseMemory; refused where nobody can."""

import asyncio
from typing import Any

import aiohttp
import pytest

from appliance.api import labels
from appliance.api.kinds import SANDBOX
from appliance.manager.errors import Fault

NO_MEMORY = {"memory": False}


@pytest.fixture
async def able(world: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The world with a node that keeps files, and runtimes that answer."""
    await world.add_node(keeps_files=True)

    async def healthy(_: Any) -> None:
        return

    monkeypatch.setattr(world.guests, "check_health", healthy)
    return world


async def _detail(world: Any, sandbox_id: str) -> Any:
    return await (await world.call("GET", f"/sandboxes/{sandbox_id}")).get_json()


async def _post(world: Any, sandbox_id: str, action: str, body: Any = None) -> int:
    prefix = "/v2" if action == "connect" else ""
    answer = await world.call("POST", f"{prefix}/sandboxes/{sandbox_id}/{action}", json=body or {})
    return int(answer.status_code)


def _asked(world: Any, sandbox_id: str) -> str | None:
    found: str | None = world.stored(sandbox_id)["metadata"]["annotations"].get(labels.PAUSE_CONTENTS)
    return found


async def test_each_pause_is_the_kind_it_was_asked_to_be(able: Any) -> None:
    """memory false, then true, then false: pauseMode tells; tokens stay; the second pause of one kind is 409."""
    made = await able.create()
    sandbox_id = made["sandboxID"]
    for body, mode in ((NO_MEMORY, "filesystem"), ({}, "full"), ({"memory": True}, "full"), (NO_MEMORY, "filesystem")):
        assert await _post(able, sandbox_id, "pause", body) == 204
        assert (await _detail(able, sandbox_id))["pauseMode"] == mode
        assert await _post(able, sandbox_id, "pause", body) == 409
        answer = await able.call("POST", f"/v2/sandboxes/{sandbox_id}/connect", json={})
        assert answer.status_code == 201
        assert (await answer.get_json())["envdAccessToken"] == made["envdAccessToken"]
        assert _asked(able, sandbox_id) is None and "pauseMode" not in await _detail(able, sandbox_id)


async def test_a_connect_without_memory_boots_whatever_was_paused(able: Any) -> None:
    """A frozen one gives its memory up first; for one without memory, and for a running one, it changes nothing."""
    sandbox_id = (await able.create())["sandboxID"]
    modes: list[str | None] = []

    def note(old: Any, new: Any) -> None:
        if new is not None:
            modes.append(new.status.conditions[-1].reason)

    able.caches.sandboxes.subscribe(note)
    for body in ({}, NO_MEMORY):
        assert await _post(able, sandbox_id, "pause", body) == 204
        modes.clear()
        assert await _post(able, sandbox_id, "connect", NO_MEMORY) == 201
        assert "FilesystemPauseSucceed" in modes and _asked(able, sandbox_id) is None
    assert await _post(able, sandbox_id, "connect", NO_MEMORY) == 200
    assert await _post(able, sandbox_id, "pause") == 204
    assert await _post(able, sandbox_id, "resume", NO_MEMORY) == 201


async def test_auto_pause_without_memory(able: Any) -> None:
    """The claim leaves the wish for the controller's timer; a manual pause keeps memory; a resume renews the wish."""
    sandbox_id = (await able.create(autoPause=True, autoPauseMemory=False))["sandboxID"]
    assert _asked(able, sandbox_id) == "filesystem"
    assert await _post(able, sandbox_id, "pause") == 204
    assert (await _detail(able, sandbox_id))["pauseMode"] == "full"
    assert await _post(able, sandbox_id, "connect") == 201
    assert _asked(able, sandbox_id) == "filesystem"
    assert (await _detail(able, sandbox_id))["lifecycle"] == {"autoResume": False, "onTimeout": "pause"}


async def test_traffic_never_boots(able: Any) -> None:
    """With autoResume a pause without memory is not woken, neither complete nor under way; an explicit connect is."""
    sandbox_id = (await able.create(autoPause=True, autoResume={"enabled": True}))["sandboxID"]
    able.cluster.controller = False
    pausing = asyncio.create_task(_post(able, sandbox_id, "pause", NO_MEMORY))
    while able.roster.run_of(able.roster.get(sandbox_id)).name != "PAUSING":
        await asyncio.sleep(0)
    assert able.routes.resolve(sandbox_id, 80).name == "TRANSITIONING"
    assert await able.routes.wake(sandbox_id) is False
    other = await able.call("POST", f"/sandboxes/{sandbox_id}/pause", json={})
    assert other.status_code == 409 and "without its memory" in (await other.get_json())["message"]
    able.cluster.controller = True
    able.cluster.reconcile("default", able.stored(sandbox_id)["metadata"]["name"])
    assert await pausing == 204
    assert able.routes.resolve(sandbox_id, 80).name == "PAUSED" and await able.routes.wake(sandbox_id) is False
    assert await _post(able, sandbox_id, "connect") == 201


async def test_where_no_node_can_it_is_a_400_that_names_the_option(world: Any) -> None:
    """On a cluster without the ability nothing is paused, claimed or resumed; the running one may be connected to."""
    await world.add_node(keeps_files=False)
    sandbox_id = (await world.create())["sandboxID"]
    for path, body, named in (
        (f"/sandboxes/{sandbox_id}/pause", NO_MEMORY, "memory: false"),
        ("/v2/sandboxes", {"templateID": "python", "autoPause": True, "autoPauseMemory": False}, "autoPauseMemory"),
    ):
        answer = await world.call("POST", path, json=body)
        assert answer.status_code == 400 and named in (await answer.get_json())["message"]
    assert await _post(world, sandbox_id, "connect", NO_MEMORY) == 200
    assert await _post(world, sandbox_id, "pause") == 204
    assert await _post(world, sandbox_id, "connect", NO_MEMORY) == 400
    assert len(await (await world.call("GET", "/v2/sandboxes")).get_json()) == 1


async def test_a_pause_that_fails_leaves_no_wish_behind(able: Any) -> None:
    """The controller's refusal is a 500 with its reason; the sandbox runs on, and its next pause is a full one."""
    sandbox_id = (await able.create())["sandboxID"]
    able.cluster.controller = False
    pausing = asyncio.create_task(_post(able, sandbox_id, "pause", NO_MEMORY))
    while _asked(able, sandbox_id) is None:
        await asyncio.sleep(0)
    failed = {"type": "SandboxPaused", "status": "False", "reason": "Failed", "message": "no room"}
    name = able.stored(sandbox_id)["metadata"]["name"]
    ready = {"type": "Ready", "status": "True"}
    able.cluster.change(SANDBOX, "default", name, {"status": {"conditions": [ready, failed]}})
    assert await pausing == 500
    assert _asked(able, sandbox_id) is None and able.stored(sandbox_id)["spec"]["paused"] is False


async def test_a_guest_that_does_not_answer_is_not_halted(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ending processes that cannot flush is refused with 503; so is requireHealthyGuest; a plain pause is not."""
    await world.add_node(keeps_files=True)
    sandbox_id = (await world.create())["sandboxID"]

    def unreachable(*_: Any, **__: Any) -> Any:
        raise aiohttp.ClientConnectionError("nobody")

    monkeypatch.setattr(world.guests._session, "get", unreachable)
    for body in (NO_MEMORY, {"requireHealthyGuest": True}):
        answer = await world.call("POST", f"/sandboxes/{sandbox_id}/pause", json=body)
        told = await answer.get_json()
        assert (answer.status_code, told["error_code"]) == (503, "sandbox_snapshot_guest_agent_unresponsive")
        assert answer.headers["Should-Retry"] == "false"
    with pytest.raises(Fault):
        await world.guests.check_health(world.roster.get(sandbox_id))
    assert await _post(world, sandbox_id, "pause") == 204


async def test_a_guest_that_was_paused_meanwhile_is_not_called_unhealthy(
    able: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pause that is faster freezes the guest under the question: the answer is the 409 of a paused sandbox."""
    sandbox_id = (await able.create())["sandboxID"]

    async def frozen(_: Any) -> None:
        assert await _post(able, sandbox_id, "pause") == 204
        raise Fault(503, "no answer")

    monkeypatch.setattr(able.guests, "check_health", frozen)
    assert await _post(able, sandbox_id, "pause", NO_MEMORY) == 409
