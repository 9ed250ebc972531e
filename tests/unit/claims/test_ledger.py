"""The claim report: true stages of every claim, what waits and why, and no more writes than it promises."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from appliance.api import claimreport, kinds, labels
from appliance.api.claimreport import Report
from appliance.api.structs import Sandbox
from appliance.claims import ledger
from appliance.claims.errors import NoStock
from appliance.claims.request import ClaimRequest

REQUEST = ClaimRequest(namespace="default", template="ci", owner="key-1")


async def test_stages_of_a_delivery_add_up_and_are_found_by_its_lock(bench) -> None:  # type: ignore[no-untyped-def]
    """A claim from the pool is told once, under the lock that is on its sandbox, and its stages make up its time."""
    bench.stock(1)
    engine = await bench.engine()
    claimed = await engine.claim(REQUEST)
    (told,) = engine.ledger.report().deliveries
    assert told.lock == claimed.sandbox.meta.annotations[labels.LOCK]
    assert (told.how, told.ready, told.conflicts) == ("pool", 0.0, 0)
    assert told.write > 0 and told.init > 0
    assert told.total == pytest.approx(claimed.timings.total, abs=1e-4)


async def test_a_claim_that_waits_says_what_for(bench, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """A runtime that does not answer shows as a claim on its way with its stage; afterwards it waits no more."""
    monkeypatch.setattr(ledger, "LATE", 0.0)
    bench.stock(1)
    engine = await bench.engine()
    bench.runtime.hold = asyncio.Event()
    task = asyncio.create_task(engine.claim(REQUEST))
    await bench.runtime.called.wait()
    (one,) = engine.ledger.report().waiting
    assert (one.namespace, one.template, one.stage) == ("default", "ci", "initialising the runtime")
    assert one.lock
    bench.runtime.hold.set()
    await task
    assert engine.ledger.report().waiting == []


async def test_a_claim_that_got_nothing_is_told_with_the_reason(bench) -> None:  # type: ignore[no-untyped-def]
    """An empty pool that may not make new ones, and a client that goes away, are failures with their words."""
    bench.stock(0)
    engine = await bench.engine()
    with pytest.raises(NoStock):
        await engine.claim(ClaimRequest(namespace="default", template="ci", owner="k", create_on_no_stock=False))
    bench.stock(1)
    while engine.stock("default", "ci") == 0:
        await asyncio.sleep(0)
    bench.runtime.hold = asyncio.Event()
    task = asyncio.create_task(engine.claim(REQUEST))
    await bench.runtime.called.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    ours = ClaimRequest(
        namespace="default", template="ci", owner="k", create_on_no_stock=False, labels={labels.CLAIM_NAME: "batch"}
    )
    with pytest.raises(NoStock):  # a SandboxClaim tries again by itself and tells on its own object
        await engine.claim(ours)
    first, second = engine.ledger.report().failures
    assert (first.template, first.error) == ("ci", "NoStock") and "no available sandbox" in first.message
    assert (second.error, second.message) == ("CancelledError", "the client went away")


async def test_many_claims_are_published_by_one_write(bench, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    """Ten claims cost ten writes of sandboxes and one of the report, which reads back as it was told."""
    monkeypatch.setattr(ledger, "PERIOD", 3600.0)
    bench.stock(10)
    engine = await bench.engine()
    cluster = bench.server.cluster()
    bench.server.requests.clear()  # those that made the stock
    await asyncio.gather(*(engine.claim(REQUEST) for _ in range(10)))
    task = asyncio.create_task(engine.ledger.publish(cluster, "sandbox-manager"))
    found: Report | None = None
    while found is None or not found.deliveries:
        await asyncio.sleep(0)
        items = (await cluster.list(kinds.CONFIGMAP, labels.SYSTEM_NAMESPACE)).items
        found = claimreport.decode(items[0]) if items else None
    assert found.deliveries == engine.ledger.report().deliveries
    assert len({one.lock for one in found.deliveries}) == 10
    (item,) = items
    assert item.meta.labels == {labels.CLAIM_REPORT: "sandbox-manager"} and item.name.startswith(
        "sandbox-manager-claims-"
    )
    assert bench.server.writes("configmaps") == {("apply", "configmaps"): 1}
    assert bench.server.writes("sandboxes") == {("patch", "sandboxes"): 10}
    task.cancel()


def test_what_is_no_report_reads_as_an_empty_one() -> None:
    """A map without data, with other data, or of a later form that cannot be read, tells nothing."""
    assert claimreport.decode(None) == Report()
    assert claimreport.decode(Sandbox()) == Report()
