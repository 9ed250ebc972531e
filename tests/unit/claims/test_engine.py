"""The claim engine against an API server in memory: one write, nothing lost, nothing left behind."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from appliance.api import kinds, labels, times
from appliance.api.egress import Egress, encode
from appliance.api.header_rules import Authority, HeaderRules, Rule, Transform
from appliance.api.ids import access_token
from appliance.claims.errors import ClaimTimeout, InitFailed, NoStock, SandboxFailed, TemplateNotFound
from appliance.claims.header_rules import drop_rules, keep_rules, stored_rules
from appliance.kube import errors


async def test_a_claim_is_one_write(bench, ask):
    """A claim from the pool costs exactly one API write and hands over token, id and environment."""
    bench.stock(3)
    engine = await bench.engine()
    before = bench.server.writes()
    claimed = await engine.claim(ask(labels={}))
    assert bench.server.writes() - before == {("patch", "sandboxes"): 1}
    stored = bench.claimed()[0]["metadata"]
    assert stored["ownerReferences"] == [] and stored["annotations"][labels.OWNER] == "key-1"
    assert stored["labels"][labels.SANDBOX_ID] == claimed.sandbox_id
    assert claimed.access_token == access_token(b"s" * 32, claimed.sandbox_id)
    ((_, body, token),) = bench.runtime.inits
    assert body["accessToken"] == token == claimed.access_token
    own = {"E2B_SANDBOX": "true", "E2B_SANDBOX_ID": claimed.sandbox_id, "E2B_TEMPLATE_ID": "ci"}
    assert body["envVars"] == own


async def test_environment_goes_to_a_secret_and_never_to_an_annotation(bench, ask):
    """Environment variables reach /init and an owned Secret, and no other object."""
    bench.stock(1)
    engine = await bench.engine()
    await engine.claim(ask(env={"PASSWORD": "hunter2"}))
    (secret,) = bench.server.of("secrets")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == bench.claimed()[0]["metadata"]["uid"]
    assert bench.runtime.inits[0][1]["envVars"]["PASSWORD"] == "hunter2"
    assert "hunter2" not in str(bench.server.of("sandboxes"))


async def test_header_rules_go_to_a_secret_of_their_revision(bench, ask):
    """The Sandbox names the revision; completing the same request again goes on with what was kept first."""
    bench.stock(1)
    engine = await bench.engine()
    rules = HeaderRules({"a.io": [Rule(Transform({"X": "hunter2"}))]}, Authority("certificate", "private"))
    request = ask(rules=rules, annotations={labels.EGRESS: encode(Egress(rules="r1"))})
    again = replace(request, rules=HeaderRules({}, Authority("another", "private")))
    with pytest.raises(errors.NotFound):  # there are no pods here
        await engine.claim(request)
    await engine.drain()
    assert bench.server.of("secrets") == []
    assert bench.runtime.inits[0][1]["caBundle"] == "certificate"
    bench.stock(1, prefix="other")
    named = {"metadata": {"annotations": dict(request.annotations)}}
    cluster = bench.server.cluster()
    sandbox = await cluster.patch(kinds.SANDBOX, "default", "other0", named)
    assert await keep_rules(cluster, sandbox, "r1", rules) == rules
    assert await keep_rules(cluster, sandbox, "r1", again.rules) == rules
    assert await stored_rules(cluster, sandbox) == rules
    (secret,) = bench.server.of("secrets")
    assert secret["metadata"]["ownerReferences"][0]["uid"] == sandbox.uid
    assert "hunter2" not in str(bench.server.of("sandboxes"))
    await drop_rules(cluster, sandbox, "r1")
    await drop_rules(cluster, sandbox, "r1")
    assert await stored_rules(cluster, sandbox) is None


async def test_current_revision_comes_first(bench, ask):
    """As long as there is a member of the current revision, no old one is delivered."""
    bench.stock(5, revision="r0", prefix="old")
    bench.stock(3, revision="r1", prefix="new")
    engine = await bench.engine()
    names = [(await engine.claim(ask())).sandbox.name for _ in range(4)]
    assert [name[:3] for name in names] == ["new", "new", "new", "old"]


async def test_a_lost_race_costs_no_time(bench, ask):
    """After a conflict the next candidate is tried at once, and the claim succeeds from the pool."""
    bench.stock(4)
    engine = await bench.engine()
    lost = []

    async def conflict_twice(verb, path, do):
        if verb == "patch" and len(lost) < 2:
            lost.append(path)
            raise errors.Conflict(409, "Conflict", "somebody was faster")
        return do()

    bench.server.trouble = conflict_twice
    claimed = await asyncio.wait_for(engine.claim(ask()), 0.5)
    assert claimed.timings.conflicts == 2 and claimed.how == "pool"
    assert len({*lost, claimed.sandbox.name}) == 3


async def test_a_burst_never_creates_while_there_is_stock(bench, ask):
    """Three hundred claims at once on three hundred sandboxes are all served from the pool, each with its own."""
    bench.stock(300)
    engine = await bench.engine()
    results = await asyncio.gather(*(engine.claim(ask()) for _ in range(300)))
    assert {result.how for result in results} == {"pool"}
    assert len({result.sandbox.name for result in results}) == 300
    assert bench.server.writes() == {("patch", "sandboxes"): 300}


async def test_no_stock_and_no_creation_is_said_at_once(bench, ask):
    """An empty pool without createOnNoStock answers NoStock with a delay, and writes nothing."""
    bench.stock(0)
    engine = await bench.engine()
    before = bench.server.writes()
    with pytest.raises(NoStock) as caught:
        await engine.claim(ask(create_on_no_stock=False))
    assert caught.value.retry_after > 0 and bench.server.writes() == before


async def test_unknown_template(bench, ask):
    """A template without a SandboxSet is named in the error."""
    bench.stock(1)
    engine = await bench.engine()
    with pytest.raises(TemplateNotFound, match="nope"):
        await engine.claim(ask(template="nope"))


async def test_any_namespace(bench, ask):
    """Without a namespace the template is found wherever it is."""
    bench.stock(1)
    engine = await bench.engine()
    assert (await engine.claim(ask(namespace=None))).sandbox.namespace == "default"


async def test_cold_creation_refers_to_the_revision_and_embeds_nothing(bench, ask):
    """On an empty pool a sandbox is created claimed from birth, waited for, and initialised."""
    bench.stock(0)
    engine = await bench.engine()
    claim = asyncio.create_task(engine.claim(ask()))
    made = await _appears(bench)
    assert made["spec"]["templateRef"] == {"name": "ci-r1"} and "template" not in made["spec"]
    assert "ownerReferences" not in made["metadata"]
    bench.ready(made["metadata"]["name"], "10.1.1.1")
    claimed = await claim
    assert claimed.how == "created" and bench.runtime.inits[0][0] == "10.1.1.1"


@pytest.mark.parametrize(("life", "from_delivery", "moved"), [(5, True, True), (5, False, False), (900, True, False)])
async def test_a_short_life_begins_with_the_delivery(bench, ask, life, from_delivery, moved):
    """A sandbox that is made first must not end while it starts; long lives and absolute times are written once."""
    bench.stock(0)
    engine = await bench.engine(ready_timeout=60.0)
    end = times.now() + timedelta(seconds=life)
    claim = asyncio.create_task(engine.claim(ask(shutdown_at=end, life_from_delivery=from_delivery)))
    made = await _appears(bench)
    bench.ready(made["metadata"]["name"], "10.1.1.1")
    claimed = await claim
    first, last = times.parse(made["spec"]["shutdownTime"]), times.parse(claimed.sandbox.spec.shutdown_time)
    assert first - end.replace(microsecond=0) == timedelta(seconds=60 if moved else 0)
    assert timedelta(0) <= last - end.replace(microsecond=0) < timedelta(seconds=60)


async def test_cold_creation_that_fails_leaves_nothing(bench, ask):
    """A created sandbox whose pod fails is deleted, and the error carries the pod's reason."""
    bench.stock(0)
    engine = await bench.engine()
    claim = asyncio.create_task(engine.claim(ask()))
    made = await _appears(bench)
    status = {"phase": "Failed", "message": "no such image"}
    bench.server.patch(f"{_path(made)}/status", {"status": status})
    with pytest.raises(SandboxFailed, match="no such image"):
        await claim
    await engine.drain()
    assert bench.server.of("sandboxes") == []


async def test_creations_are_bounded(bench, ask):
    """Beyond max_create_in_flight a claim waits its turn; NoStock when that takes too long or the line is full."""
    bench.stock(0)
    engine = await bench.engine(max_create_in_flight=1, create_wait=0.01)
    first = asyncio.create_task(engine.claim(ask()))
    await _appears(bench)
    with pytest.raises(NoStock, match="being made"):
        await engine.claim(ask())
    full = await bench.engine(max_create_in_flight=0, max_create_waiting=0)
    with pytest.raises(NoStock, match="being made"):
        await full.claim(ask())
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await full.drain()
    await engine.drain()
    assert bench.server.of("sandboxes") == []


async def test_who_waits_in_line_comes_next(bench, ask):
    """A claim in line makes its sandbox once the one before it has ended, however that ended."""
    bench.stock(0)
    engine = await bench.engine(max_create_in_flight=1)
    first = asyncio.create_task(engine.claim(ask()))
    await _appears(bench)
    second = asyncio.create_task(engine.claim(ask()))
    while engine._maker._waiting == 0:
        await asyncio.sleep(0)
    assert len(bench.server.of("sandboxes")) == 1
    before = {one["metadata"]["name"] for one in bench.server.of("sandboxes")}
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    while {one["metadata"]["name"] for one in bench.server.of("sandboxes")} <= before:
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    await engine.drain()
    assert bench.server.of("sandboxes") == []


async def test_a_broken_runtime_is_replaced_by_another_sandbox(bench, ask):
    """A sandbox whose runtime does not answer is deleted and the claim goes on with the next."""
    bench.stock(2)
    engine = await bench.engine()
    bench.runtime.refuse = {"10.0.0.1"}
    for _ in range(1):
        claimed = await engine.claim(ask())
    await engine.drain()
    assert claimed.sandbox.status.sandbox_ip == "10.0.0.2"
    assert len(bench.claimed()) == 1


async def test_init_failure_everywhere_leaves_nothing(bench, ask):
    """When no runtime can be initialised the claim fails, and what it took is gone, Secrets too."""
    bench.stock(3)
    engine = await bench.engine()
    bench.runtime.refuse = {f"10.0.0.{number}" for number in range(1, 4)}
    with pytest.raises(InitFailed):
        await engine.claim(ask(env={"A": "b"}))
    await engine.drain()
    assert bench.claimed() == [] and bench.server.of("secrets") == []


async def test_reserved_failures_are_kept_and_marked(bench, ask):
    """With reserve_failed the failed sandbox stays, labelled, for somebody to look at."""
    bench.stock(1)
    engine = await bench.engine()
    bench.runtime.refuse = {"10.0.0.1"}
    with pytest.raises(InitFailed):
        await engine.claim(ask(reserve_failed=True))
    (kept,) = bench.claimed()
    assert kept["metadata"]["labels"][labels.RESERVED_FAILED] == "true"


async def test_a_lost_answer_is_found_out(bench, ask):
    """When the write lands but its answer is lost, the claim still delivers that sandbox, once."""
    bench.stock(3)
    engine = await bench.engine()
    lose = [True]

    async def lost_answer(verb, path, do):
        answer = do()
        if verb == "patch" and lose.pop():
            lose.append(False)
            raise errors.Unreachable("the connection broke")
        lose.append(False)
        return answer

    bench.server.trouble = lost_answer
    claimed = await engine.claim(ask())
    assert [item["metadata"]["name"] for item in bench.claimed()] == [claimed.sandbox.name]


async def test_the_time_limit_covers_everything(bench, ask):
    """A runtime that never answers ends the claim at its time limit, and the sandbox is deleted."""
    bench.stock(1)
    engine = await bench.engine()
    bench.runtime.hold = asyncio.Event()
    with pytest.raises(ClaimTimeout, match="initialising"):
        await engine.claim(ask(timeout=0.05))
    await engine.drain()
    assert bench.claimed() == []


@pytest.mark.parametrize("steps", range(14))
async def test_cancelled_at_any_await_nothing_is_left(bench, ask, steps):
    """A client that goes away after any number of scheduling steps leaves no claimed sandbox and no Secret."""
    bench.stock(2)
    engine = await bench.engine()
    claim = asyncio.create_task(engine.claim(ask(env={"A": "b"}, labels={"team": "x"})))
    for _ in range(steps):
        await asyncio.sleep(0)
    if claim.done() and not claim.cancelled() and claim.exception() is None:
        return
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    await engine.drain()
    assert bench.claimed() == [] and bench.server.of("secrets") == []


async def test_no_internet_is_confirmed_before_delivery(bench, ask):
    """A claim without internet waits for the node's word and labels the pod."""
    bench.stock(1)
    pods = "/api/v1/namespaces/default/pods"
    bench.server.create(pods, {"metadata": {"name": "s0"}})
    engine = await bench.engine()
    claim = asyncio.create_task(engine.claim(ask(labels={labels.ALLOW_INTERNET: "false"})))
    while labels.ALLOW_INTERNET not in bench.server.objects[f"{pods}/s0"]["metadata"].get("labels", {}):
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not claim.done()
    condition = {"type": labels.CONDITION_NETWORK, "status": "True", "reason": "InternetDenied"}
    bench.server.patch(f"{pods}/s0/status", {"status": {"conditions": [condition]}})
    await claim


def _path(item):
    return f"/apis/agents.kruise.io/v1alpha1/namespaces/default/sandboxes/{item['metadata']['name']}"


async def _appears(bench):
    while not bench.server.of("sandboxes"):
        await asyncio.sleep(0)
    return bench.server.of("sandboxes")[0]
