"""Pause, resume, deadlines and kill: the table of the contract §1.10, and what happens when things go wrong."""

import asyncio
import base64
import hashlib
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from appliance.api import labels, times
from appliance.api.kinds import SANDBOX
from appliance.gateway.routes import Credentials
from appliance.kube import errors
from appliance.manager.errors import Fault

PAUSED = {"type": "SandboxPaused", "status": "True", "reason": "StopPauseSucceed"}


async def _status(world: Any, method: str, path: str, **options: Any) -> int:
    return int((await world.call(method, path, **options)).status_code)


async def _end(world: Any, sandbox_id: str) -> datetime:
    return times.parse((await (await world.call("GET", f"/sandboxes/{sandbox_id}")).get_json())["endAt"])


async def test_the_table_of_states(world: Any) -> None:
    """Each operation answers what the contract says for a running and for a paused sandbox."""
    path = f"/sandboxes/{(await world.create(timeout=60))['sandboxID']}"
    assert await _status(world, "POST", f"{path}/resume", json={"timeout": 30}) == 409
    assert await _status(world, "POST", f"{path}/pause") == 204
    assert await _status(world, "POST", f"{path}/pause") == 409
    assert await _status(world, "POST", f"{path}/timeout", json={"timeout": 30}) == 404
    assert await _status(world, "POST", f"{path}/refreshes", json={"duration": 30}) == 404
    detail = await (await world.call("GET", path)).get_json()
    assert detail["state"] == "paused" and detail["pauseMode"] == "full"
    assert times.parse(detail["endAt"]) >= times.parse(detail["startedAt"])
    assert await _status(world, "POST", f"{path}/connect", json={"timeout": 30}) == 201
    assert await _status(world, "POST", f"{path}/connect", json={"timeout": 30}) == 200
    assert await _status(world, "POST", f"{path}/pause", json={"memory": True}) == 204
    assert await _status(world, "POST", f"{path}/resume", json={"timeout": 30, "autoPause": True}) == 201
    assert (await (await world.call("GET", path)).get_json())["lifecycle"]["onTimeout"] == "pause"
    assert await _status(world, "POST", f"{path}/pause") == 204
    assert await _status(world, "DELETE", path) == 204
    for tail in ("pause", "connect", "resume"):
        assert await _status(world, "POST", f"{path}/{tail}", json={"timeout": 1}) == 404


async def test_connect_only_extends_and_timeout_may_shorten(world: Any) -> None:
    """The deadline moves as §1.10 says; times are rounded up, never down."""
    sandbox_id = (await world.create(timeout=600))["sandboxID"]
    before = await _end(world, sandbox_id)
    assert timedelta(seconds=598) < before - world.clock.now() < timedelta(seconds=602)
    await world.call("POST", f"/v2/sandboxes/{sandbox_id}/connect", json={"timeout": 10})
    assert await _end(world, sandbox_id) == before
    await world.call("POST", f"/v2/sandboxes/{sandbox_id}/connect", json={"timeout": 900})
    assert await _end(world, sandbox_id) - before > timedelta(seconds=298)
    await world.call("POST", f"/sandboxes/{sandbox_id}/timeout", json={"timeout": 10})
    assert await _end(world, sandbox_id) < world.clock.now() + timedelta(seconds=12)
    await world.call("POST", f"/sandboxes/{sandbox_id}/refreshes", json={"duration": 0})
    assert await _end(world, sandbox_id) > world.clock.now() + timedelta(seconds=13)


async def test_a_dead_line_passed_is_death_before_anybody_deletes(world: Any) -> None:
    """After shutdownTime GET is 404 and traffic is refused, even if the controller sleeps."""
    sandbox_id = (await world.create(timeout=5))["sandboxID"]
    world.clock.offset = timedelta(seconds=7)
    assert await _status(world, "GET", f"/sandboxes/{sandbox_id}") == 404
    assert world.routes.resolve(sandbox_id, 80).name == "NOT_FOUND"


async def test_auto_pause_sets_pause_time_and_a_pause_clears_the_timers(world: Any) -> None:
    """autoPause → pauseTime; a paused sandbox has no deadline; retention gives it one; resume starts a new run."""
    kept = {f"{labels.E2B_PREFIX}reserve-paused-sandbox-duration": "1h"}
    made = await world.create(timeout=60, autoPause=True, metadata=kept)
    spec = world.stored(made["sandboxID"])["spec"]
    assert times.parse(spec["shutdownTime"]) - times.parse(spec["pauseTime"]) == timedelta(hours=1)
    path = f"/sandboxes/{made['sandboxID']}"
    first = (await (await world.call("GET", path)).get_json())["startedAt"]
    assert await _status(world, "POST", f"{path}/pause") == 204
    spec = world.stored(made["sandboxID"])["spec"]
    assert "pauseTime" not in spec and times.parse(spec["shutdownTime"]) > world.clock.now() + timedelta(minutes=59)
    assert await _status(world, "POST", f"{path}/connect", json={"timeout": 60}) == 201
    detail = await (await world.call("GET", path)).get_json()
    assert detail["startedAt"] > first and detail["lifecycle"]["onTimeout"] == "pause"
    assert "pauseTime" in world.stored(made["sandboxID"])["spec"]


async def test_a_pause_may_say_how_long_it_is_kept(world: Any) -> None:
    """The header gives the paused sandbox an end; nonsense in it is a 400 that names it."""
    sandbox_id = (await world.create())["sandboxID"]
    header = "x-e2b-kruise-reserve-paused-sandbox-duration"
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/pause", headers={header: "soon"}) == 400
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/pause", headers={header: "2h"}) == 204
    stored = world.stored(sandbox_id)
    assert stored["metadata"]["annotations"][labels.RESERVE_PAUSED] == "2h0m0s"
    left = times.parse(stored["spec"]["shutdownTime"]) - world.clock.now()
    assert timedelta(minutes=119) < left <= timedelta(minutes=121)


async def test_two_pauses_share_one_and_a_connect_waits_for_it(world: Any) -> None:
    """Concurrent pauses both answer 204, a connect in the middle waits for the pause and resumes."""
    sandbox_id = (await world.create(timeout=60))["sandboxID"]
    world.cluster.controller = False
    pauses = [asyncio.create_task(_status(world, "POST", f"/sandboxes/{sandbox_id}/pause")) for _ in range(2)]
    name = world.stored(sandbox_id)["metadata"]["name"]
    while not world.stored(sandbox_id)["spec"].get("paused"):
        await asyncio.sleep(0)
    assert (await (await world.call("GET", f"/sandboxes/{sandbox_id}")).get_json())["state"] == "paused"
    assert world.routes.resolve(sandbox_id, 80).name == "TRANSITIONING"
    connect = asyncio.create_task(_status(world, "POST", f"/sandboxes/{sandbox_id}/connect", json={"timeout": 5}))
    await asyncio.sleep(0)
    world.cluster.controller = True
    world.cluster.reconcile("default", name)
    assert await asyncio.gather(*pauses) == [204, 204]
    assert await connect == 201
    patches = [call for call in world.cluster.calls if call[:2] == ("patch", "sandboxes")]
    assert len(patches) <= 4  # claim, pause (the second found it done, or lost once), resume


async def test_a_pause_of_a_sandbox_being_resumed_is_refused(world: Any) -> None:
    """Opposite actions do not fight: 409 while a resume is under way."""
    sandbox_id = (await world.create())["sandboxID"]
    await world.call("POST", f"/sandboxes/{sandbox_id}/pause")
    world.cluster.controller = False
    connect = asyncio.create_task(_status(world, "POST", f"/sandboxes/{sandbox_id}/connect", json={"timeout": 5}))
    while world.stored(sandbox_id)["spec"]["paused"]:
        await asyncio.sleep(0)
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/pause") == 409
    world.cluster.controller = True
    world.cluster.reconcile("default", world.stored(sandbox_id)["metadata"]["name"])
    assert await connect == 201


async def test_a_failed_pause_is_taken_back(world: Any) -> None:
    """When the controller cannot pause, the sandbox runs on with its old deadline and the reason is told."""
    sandbox_id = (await world.create(timeout=60))["sandboxID"]
    before = await _end(world, sandbox_id)
    world.cluster.controller = False
    pause = asyncio.create_task(world.call("POST", f"/sandboxes/{sandbox_id}/pause"))
    while not world.stored(sandbox_id)["spec"].get("paused"):
        await asyncio.sleep(0)
    failed = {"type": "SandboxPaused", "status": "False", "reason": "Failed", "message": "no Hibernate here"}
    ready = {"type": "Ready", "status": "True"}
    name = world.stored(sandbox_id)["metadata"]["name"]
    world.cluster.change(SANDBOX, "default", name, {"status": {"conditions": [ready, failed]}})
    answer = await pause
    assert answer.status_code == 500 and "no Hibernate here" in (await answer.get_json())["message"]
    assert world.stored(sandbox_id)["spec"]["paused"] is False
    assert await _end(world, sandbox_id) == before


async def test_a_sandbox_that_dies_while_paused_ends_the_wait(world: Any) -> None:
    """A kill during a pause answers 204 and the pause 404; nothing hangs."""
    sandbox_id = (await world.create())["sandboxID"]
    world.cluster.controller = False
    pause = asyncio.create_task(_status(world, "POST", f"/sandboxes/{sandbox_id}/pause"))
    while not world.stored(sandbox_id)["spec"].get("paused"):
        await asyncio.sleep(0)
    assert await _status(world, "DELETE", f"/sandboxes/{sandbox_id}") == 204
    assert await pause == 404


async def test_a_lost_race_is_decided_anew(world: Any) -> None:
    """A write that finds another version re-reads and succeeds; endless losses end with 503."""
    sandbox_id = (await world.create(timeout=60))["sandboxID"]
    lost = iter([errors.Conflict(409, "Conflict", "x")] * 3)
    world.cluster.fail = lambda verb, plural: next(lost, None) if (verb, plural) == ("patch", "sandboxes") else None
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/timeout", json={"timeout": 10}) == 204
    world.cluster.fail = lambda verb, plural: errors.Conflict(409, "Conflict", "x") if verb == "patch" else None
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/timeout", json={"timeout": 10}) == 503


async def test_a_kill_that_fails_leaves_the_sandbox_known(world: Any) -> None:
    """When the deletion is refused, the answer is an error and the sandbox is still there."""
    sandbox_id = (await world.create())["sandboxID"]
    world.cluster.fail = lambda verb, plural: errors.Forbidden(403, "Forbidden", "no") if verb == "delete" else None
    assert await _status(world, "DELETE", f"/sandboxes/{sandbox_id}") == 500
    world.cluster.fail = lambda verb, plural: None
    assert await _status(world, "GET", f"/sandboxes/{sandbox_id}") == 200


async def test_a_kill_with_an_unknown_outcome_is_asked_again(world: Any) -> None:
    """An answer that got lost on the way does not fail the kill."""
    sandbox_id = (await world.create())["sandboxID"]
    lost = iter([errors.Unreachable("cut")])
    world.cluster.fail = lambda verb, plural: next(lost, None) if verb == "delete" else None
    assert await _status(world, "DELETE", f"/sandboxes/{sandbox_id}") == 204
    assert await _status(world, "GET", f"/sandboxes/{sandbox_id}") == 404


def _unseen(world: Any, sandbox_id: str, **meta: str) -> None:
    """A write that the manager has not heard of yet."""
    stored = world.cluster.objects[SANDBOX.plural, *world.roster.get(sandbox_id).sandbox.key]
    stored["metadata"] |= {"resourceVersion": "unseen", **meta}


async def test_a_kill_that_another_manager_has_begun_is_404(world: Any) -> None:
    """The deletion is on its way in the cluster and not yet heard of here: this one killed nothing, and says so."""
    sandbox_id = (await world.create())["sandboxID"]
    _unseen(world, sandbox_id, deletionTimestamp="2026-01-01T00:00:00Z")
    assert await _status(world, "DELETE", f"/sandboxes/{sandbox_id}") == 404


async def test_a_kill_of_a_sandbox_that_has_changed_is_one(world: Any) -> None:
    """A write that was not heard of is no reason not to kill; two sandboxes of one name are told apart."""
    sandbox_id = (await world.create())["sandboxID"]
    key = (SANDBOX.plural, *world.roster.get(sandbox_id).sandbox.key)
    _unseen(world, sandbox_id)
    assert await _status(world, "DELETE", f"/sandboxes/{sandbox_id}") == 204
    assert key not in world.cluster.objects
    other = (await world.create())["sandboxID"]
    _unseen(world, other, uid="another")
    assert await _status(world, "DELETE", f"/sandboxes/{other}") == 404


async def test_a_kill_whose_caller_leaves_is_finished(world: Any) -> None:
    """Cancelling the request in the middle of the deletion still deletes the sandbox."""
    sandbox_id = (await world.create())["sandboxID"]
    entry = world.roster.get(sandbox_id)
    task = asyncio.create_task(world.lifecycle.kill(entry))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while any(key[0] == "sandboxes" and key[2] == entry.sandbox.name for key in world.cluster.objects):
        await asyncio.sleep(0)


async def test_a_pause_that_takes_too_long_says_so(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait is bounded: 504 that names the sandbox."""
    monkeypatch.setattr("appliance.manager.pauses.PAUSE_WAIT", 0.01)
    sandbox_id = (await world.create())["sandboxID"]
    world.cluster.controller = False
    with pytest.raises(Fault, match="longer than") as raised:
        await world.lifecycle.pause(world.roster.get(sandbox_id))
    assert raised.value.status == 504


async def test_traffic_wakes_only_what_asked_for_it(world: Any) -> None:
    """autoResume makes a paused sandbox resumable by traffic, for its creation's time-out but at least the minimum."""
    plain = (await world.create())["sandboxID"]
    woken = (await world.create(autoResume={"enabled": True}, timeout=20))["sandboxID"]
    for sandbox_id in (plain, woken):
        assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/pause") == 204
        assert sandbox_id in world.gateway.resets
    assert world.routes.resolve(plain, 80).name == "PAUSED"
    assert world.routes.resolve(woken, 80).name == "PAUSED_RESUMABLE"
    assert await world.routes.wake(plain) is False
    assert await world.routes.wake(woken) is True
    assert world.routes.resolve(woken, 80).host.startswith("10.0.0.")
    assert await _end(world, woken) > world.clock.now() + timedelta(seconds=295)


async def test_traffic_wakes_only_with_the_credentials_of_its_port(world: Any) -> None:
    """envd of a secured sandbox wants its token or a valid signed URL, a private user port the traffic token."""
    public = await world.create(autoResume={"enabled": True})
    private = await world.create(autoResume={"enabled": True}, network={"allowPublicTraffic": False})

    def admits(made: Any, port: int, url: str = "/", access: str | None = None, traffic: str | None = None) -> bool:
        shown = Credentials(
            b"GET", url.encode(), access.encode() if access else None, traffic.encode() if traffic else None
        )
        answer: bool = world.routes.admits(made["sandboxID"], port, shown)
        return answer

    token = public["envdAccessToken"]
    assert admits(public, 49983, access=token)
    assert not admits(public, 49983) and not admits(public, 49983, access=private["envdAccessToken"])
    assert admits(public, 3000)
    assert not admits(private, 3000) and not admits(private, 3000, traffic="x")
    assert admits(private, 3000, traffic=private["trafficAccessToken"])
    for expiration, valid in (("", True), ("32503680000", True), ("1", False)):
        text = f"/f:read::{token}" + (f":{expiration}" if expiration else "")
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        query = {"path": "/f", "signature": f"v1_{digest}"} | (
            {"signature_expiration": expiration} if expiration else {}
        )
        assert admits(public, 49983, f"/files?{urlencode(query)}") is valid
        assert not admits(public, 49983, f"/files?{urlencode(query | {'path': '/g'})}")
        assert not admits(public, 49983, f"/other?{urlencode(query)}")
    assert not world.routes.admits("iunknown", 3000, Credentials(b"GET", b"/", None, None))


async def test_traffic_never_wakes_what_lost_its_memory(world: Any) -> None:
    """A pause that kept only files is ended by connect alone."""
    made = await world.create(autoResume={"enabled": True})
    sandbox_id = made["sandboxID"]
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/pause") == 204
    stored = world.stored(sandbox_id)
    found = [one | {"reason": "StopPauseSucceed"} for one in stored["status"]["conditions"]]
    world.cluster.change(SANDBOX, "default", stored["metadata"]["name"], {"status": {"conditions": found}})
    assert world.routes.resolve(sandbox_id, 80).name == "PAUSED"
    assert await _status(world, "POST", f"/sandboxes/{sandbox_id}/connect", json={"timeout": 30}) == 201
