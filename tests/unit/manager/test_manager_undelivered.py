"""A manager that starts after one that was killed: what was taken and never answered for is killed, nothing else."""

import asyncio
import copy
from datetime import timedelta
from typing import Any

import pytest

from appliance.api.kinds import SANDBOX
from appliance.claims.errors import InitFailed
from appliance.claims.pledges import Pledges
from appliance.kube import errors
from appliance.manager import undelivered

KEY = {"Idempotency-Key": "once"}
BODY = {"templateID": "python", "envVars": {"A": "b"}}


async def _left(world: Any) -> int:
    """As the next process would start."""
    return await undelivered.clear(Pledges(world.pledges._path), world.roster, world.lifecycle)


async def test_an_answered_sandbox_lives_and_an_unanswered_one_does_not(world: Any) -> None:
    """The answer strikes the sandbox out; one taken without an answer is killed at the next start, once."""
    answered, taken = [(await world.create())["sandboxID"] for _ in range(2)]
    world.pledges.open(taken)
    world.pledges.open("inobody")
    assert await _left(world) == 1
    assert (await world.call("GET", f"/sandboxes/{taken}")).status_code == 404
    assert (await world.call("GET", f"/sandboxes/{answered}")).status_code == 200
    assert await _left(world) == 0


async def test_what_cannot_be_killed_now_is_tried_at_the_next_start(world: Any) -> None:
    """A cluster that refuses leaves the sandbox in the pledges."""
    taken = (await world.create())["sandboxID"]
    world.pledges.open(taken)
    refusal = errors.Forbidden(403, "Forbidden", "no")
    world.cluster.fail = lambda verb, plural: refusal if verb == "delete" else None
    assert await _left(world) == 0
    world.cluster.fail = lambda verb, plural: None
    assert await _left(world) == 1


async def test_a_replay_finishes_what_another_manager_took(world: Any) -> None:
    """Token and environment are handed over again, once; later replays, and those of an old sandbox, do nothing."""
    made = await (await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)).get_json()
    replays = world.wired.replays
    for forgotten, inits in ((False, 1), (True, 2), (False, 2)):
        if forgotten:
            replays._done.clear()  # as in the other manager
        again = await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)
        assert (again.status_code, (await again.get_json())["sandboxID"]) == (201, made["sandboxID"])
        assert len(world.runtime.inits) == inits
    assert world.runtime.inits[1][1]["envVars"]["A"] == "b"
    assert world.runtime.inits[1][2] == made["envdAccessToken"]
    world.clock.offset = timedelta(minutes=4)
    await world.call("POST", f"/sandboxes/{made['sandboxID']}/timeout", json={"timeout": 3000})
    world.clock.offset = timedelta(minutes=11)
    replays._done.clear()
    assert (await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)).status_code == 201
    assert len(world.runtime.inits) == 2


async def test_a_replay_of_what_cannot_be_finished_is_to_come_back(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A runtime that refuses is 503; one that is still being made is 409 with the word for it and a hint to retry."""
    made = await (await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)).get_json()
    world.wired.replays._done.clear()

    async def refuse(*_: Any, **__: Any) -> None:
        raise InitFailed("no")

    with monkeypatch.context() as patched:
        patched.setattr(world.runtime, "init", refuse)
        assert (await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)).status_code == 503
    name = world.stored(made["sandboxID"])["metadata"]["name"]
    world.cluster.change(SANDBOX, "default", name, {"status": {"phase": "Pending"}})
    answer = await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)
    told = await answer.get_json()
    assert (answer.status_code, told["error_code"]) == (409, "sandbox_start_in_flight")
    assert answer.headers["Should-Retry"] == "true" and answer.headers["Retry-After"] == "1"


async def test_a_watch_that_lags_does_not_make_a_second_sandbox(world: Any) -> None:
    """What another manager made an instant ago is asked of the cluster when the cache does not know it."""
    made = await (await world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY)).get_json()
    elsewhere = copy.deepcopy(world.stored(made["sandboxID"]))
    world.cluster.remove(SANDBOX, "default", elsewhere["metadata"]["name"])
    elsewhere["metadata"] |= {"name": "unseen", "uid": "another", "resourceVersion": "1000000"}
    world.cluster.objects[SANDBOX.plural, "default", "unseen"] = elsewhere
    assert world.roster.get(made["sandboxID"]) is None
    calls = (world.call("POST", "/v2/sandboxes", json=BODY, headers=KEY) for _ in range(3))
    answers = [await one.get_json() for one in await asyncio.gather(*calls)]
    assert {one["sandboxID"] for one in answers} == {made["sandboxID"]}
