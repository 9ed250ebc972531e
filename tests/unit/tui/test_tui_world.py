"""The reducer: what changes mean, in tables, without clocks or widgets."""

import pytest
from decks import T0, busy_changes, claim, event, gone, node, pool, put, report, sandbox, stamp, world

from appliance.api.claimreport import Delivery, Failure, Waiting
from appliance.api.states import State
from tui.model.alerts import WatchHealth, alerts
from tui.model.change import Change
from tui.model.meters import SAMPLES, LevelHistory, RateMeter, percentile
from tui.model.pools import seconds_until_dry


def only_pool(changes: list[Change], now: float = T0):
    """The row of the only pool."""
    (row,) = world(changes).pool_rows(now)
    return row


def test_a_pool_counts_its_sandboxes_by_what_they_are_good_for() -> None:
    """Available, creating, claimed, paused and failing are counted from the sandboxes themselves."""
    row = only_pool(
        [
            put(T0, pool("py", 5)),
            put(T0, sandbox("py-1")),
            put(T0, sandbox("py-2", phase="", ready=False)),
            put(T0, sandbox("py-3", claimed=T0 - 5)),
            put(T0, sandbox("py-4", claimed=T0 - 5, paused=True, paused_done=True)),
            put(T0, sandbox("py-5", phase="Pending", ready=False, reason="StartContainerFailed")),
        ]
    )
    assert (row.desired, row.available, row.creating, row.claimed, row.paused, row.failing) == (5, 1, 2, 2, 1, 1)


def test_counts_return_to_nothing_when_everything_is_deleted() -> None:
    """Applying and deleting any fleet leaves no count, book or member behind."""
    changes = busy_changes()
    made = world(changes)
    for row in list(made.sandboxes.values()):
        made.apply(gone(T0, row.source))
    for item in list(made.sets.values()):
        made.apply(gone(T0, item))
    assert not made.sandboxes
    assert not made.books
    assert sum(made.states.values()) == 0
    assert not made._members


def test_a_sandbox_made_anew_under_the_same_name_is_another_one() -> None:
    """A new uid under a known name replaces the old sandbox instead of counting as its change."""
    first = sandbox("py-1", claimed=T0 - 9)
    second = sandbox("py-1", at=T0)
    made = world([put(T0 - 9, first)])
    other = type(second)(meta=_with_uid(second.meta), spec=second.spec, status=second.status)
    made.apply(put(T0, other))
    assert made.states == {State.AVAILABLE: 1, State.RUNNING: 0}


def _with_uid(meta):
    import msgspec

    return msgspec.structs.replace(meta, uid="another")


@pytest.mark.parametrize(
    ("claims", "refills", "available", "expected"),
    [(0, 0, 4, None), (30, 0, 4, 4.0), (30, 30, 4, None), (30, 15, 4, 8.0), (0, 0, 0, None), (3, 0, 0, 0.0)],
)
def test_seconds_until_dry(claims: int, refills: int, available: int, expected: float | None) -> None:
    """The stock over the net drain of the last half minute; nothing when it holds, zero when it is gone."""
    book = world([put(T0, pool("py"))]).books["default", "py"]
    book.claims.add(T0 - 10, claims)
    book.refills.add(T0 - 10, refills)
    book.members[State.AVAILABLE] = available
    assert seconds_until_dry(book, T0) == expected


@pytest.mark.parametrize(
    ("members", "failing", "replicas", "health"),
    [
        (3, 0, 3, "full"),
        (2, 0, 3, "filling"),
        (0, 0, 3, "dry"),
        (1, 0, 8, "low"),
        (1, 1, 3, "failing"),
        (0, 0, 0, "idle"),
    ],
)  # fmt: skip
def test_health_of_a_pool(members: int, failing: int, replicas: int, health: str) -> None:
    """One word says how a pool is; the worst true one wins."""
    changes = [put(T0, pool("py", replicas))]
    changes += [put(T0, sandbox(f"py-{index}")) for index in range(members)]
    changes += [put(T0, sandbox(f"py-f{index}", phase="Failed", ready=False)) for index in range(failing)]
    assert only_pool(changes).health == health


def test_hit_rate_tells_warm_deliveries_from_cold_ones() -> None:
    """A delivery of a member is a hit, one made on demand is a miss, and both are claims."""
    row = only_pool(
        [
            put(T0 - 30, pool("py", 1)),
            put(T0 - 30, sandbox("py-1")),
            put(T0 - 5, sandbox("py-1", claimed=T0 - 5, version=2)),
            put(T0 - 4, sandbox("py-2", at=T0 - 4, claimed=T0 - 4, on_demand=True, phase="", ready=False)),
        ]
    )
    assert row.hit == 0.5
    assert row.claim == pytest.approx(2 / 60)


def test_rates_count_refills_once_and_not_repeats() -> None:
    """A member counts as refill when it becomes available, not again when it changes otherwise."""
    changes = [put(T0 - 30, pool("py", 1)), put(T0 - 9, sandbox("py-1", phase="", ready=False))]
    changes += [put(T0 - 8, sandbox("py-1", version=2)), put(T0 - 7, sandbox("py-1", version=3))]
    assert only_pool(changes).refill == pytest.approx(1 / 60)


def test_latency_is_only_taken_from_what_was_seen_live() -> None:
    """A delivery read from the first list has no latency; one that arrived as it happened has."""
    made = world(
        [
            put(T0 - 1, sandbox("old", claimed=T0 - 500)),
            put(T0 - 60, sandbox("new")),
            put(T0 - 0.75, sandbox("new", claimed=T0 - 1, version=2)),
        ]
    )
    assert [took for _, took in made.latencies] == [pytest.approx(0.25)]
    by_name = {row.key[1]: row for row in made.claim_rows(T0)}
    assert by_name["old"].seconds is None
    assert by_name["new"].seconds == pytest.approx(0.25)


def test_a_cold_delivery_is_in_flight_until_its_sandbox_is_ready() -> None:
    """A sandbox made for its claim shows as waiting with the cause, then as ready with the time it took."""
    born = sandbox("py-c", at=T0 - 5, claimed=T0 - 5, on_demand=True, phase="", ready=False)
    made = world([put(T0 - 4.9, born)])
    (row,) = made.claim_rows(T0)
    assert (row.phase, row.ended) == ("claiming", None)
    assert "the pool was empty" in row.cause
    made.apply(put(T0 - 2, sandbox("py-c", at=T0 - 5, claimed=T0 - 5, on_demand=True, version=2)))
    (row,) = made.claim_rows(T0)
    assert row.phase == "done"
    assert row.seconds == pytest.approx(3.0)
    assert row.stages[3] > row.stages[2] > 0


@pytest.mark.parametrize(
    ("steps", "phase", "cause"),
    [
        ([{}], "claiming", "not seen by the controller yet"),
        ([{"started": T0}], "claiming", "the pool is dry; new ones are being made"),
        ([{"started": T0, "template": "absent"}], "claiming", "no pool is named 'absent' in default"),
        ([{"started": T0, "got": 1, "ended": T0}], "done", "1 of 1 delivered"),
        ([{"started": T0, "got": 0, "ended": T0}], "short", "0 of 1 delivered"),
    ],
)
def test_why_a_claim_waits(steps: list[dict], phase: str, cause: str) -> None:
    """Each state of a SandboxClaim is told with its cause in words."""
    made = world([put(T0, pool("py", 1)), *(put(T0, claim("c", at=T0 - 1, **step)) for step in steps)])
    (row,) = made.claim_rows(T0)
    assert (row.phase, row.cause) == (phase, cause)


def test_where_the_time_of_a_claim_went_is_taken_from_live_sightings() -> None:
    """Whole-second stamps are replaced by the instants at which the steps arrived."""
    made = world(
        [
            put(T0 + 0.1, claim("c", at=T0)),
            put(T0 + 0.3, claim("c", at=T0, started=T0)),
            put(T0 + 0.7, claim("c", at=T0, started=T0, got=1)),
            put(T0 + 0.9, claim("c", at=T0, started=T0, got=1, ended=T0 + 1)),
        ]
    )
    (row,) = made.claim_rows(T0)
    assert row.stages == pytest.approx((0.2, 0.4, 0, 0, 0.2))


def test_the_timeline_joins_what_stamps_tell_with_what_was_seen() -> None:
    """Created, ready, claimed, paused and deleted appear once each, in order."""
    made = world([put(T0 - 50, sandbox("py-1"))])
    made.apply(put(T0 - 20, sandbox("py-1", claimed=T0 - 20, version=2)))
    made.apply(put(T0 - 10, sandbox("py-1", claimed=T0 - 20, paused=True, version=3)))
    made.apply(put(T0 - 9, sandbox("py-1", claimed=T0 - 20, paused=True, paused_done=True, version=4)))
    made.apply(gone(T0, sandbox("py-1")))
    words = [moment.what for moment in made.timeline(("default", "py-1"))]
    assert words[0] == "created"
    assert words[-1] == "deleted"
    for word in ("claimed", "pausing"):
        assert words.count(word) == 1
    assert [moment.at for moment in made.timeline(("default", "py-1"))] == sorted(
        moment.at for moment in made.timeline(("default", "py-1"))
    )


def test_alerts_name_what_is_wrong_worst_first() -> None:
    """Dry pools, stuck pauses, lagging controllers and refused watches are found, and sorted by urgency."""
    made = world(busy_changes())
    made.apply(put(T0, node("far", ready=False)))
    found = alerts(made, made.pool_rows(T0), [WatchHealth("pods", "forbidden", "no")], T0)
    titles = [one.title for one in found]
    assert titles == [
        "node far is not ready",
        "pool default/broken cannot start sandboxes",
        "pool default/dry-pool is dry",
        "not allowed to watch pods",
        "pause of py-frozen is stuck",
        "pool default/broken is not reconciled",
    ]


def test_alerts_of_orphans_and_overdue_sandboxes() -> None:
    """Members of a deleted set and sandboxes past their end are told with their names."""
    made = world([put(T0, sandbox("py-1")), put(T0, sandbox("py-2", claimed=T0 - 99, shutdown=T0 - 60))])
    titles = {one.title for one in alerts(made, [], [], T0)}
    assert titles == {"1 pool members without a pool", "1 sandboxes outlived their shutdown time"}


def test_events_are_found_by_object_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events about an object come in order of time; the oldest are forgotten beyond the limit."""
    monkeypatch.setattr("tui.model.world.EVENTS", 3)
    made = world([put(T0 + n, event(f"e{n}", "py-1", at=T0 + n, reason=f"R{n}", message="")) for n in range(5)])
    assert [one.reason for one in made.events_about(("default", "py-1"))] == ["R2", "R3", "R4"]


def test_deliveries_and_timelines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand short lives leave only as many rows and timelines as are kept."""
    monkeypatch.setattr("tui.model.deliveries.RECENT", 10)
    monkeypatch.setattr("tui.model.world.GONE", 10)
    made = world([])
    for index in range(100):
        item = sandbox(f"s{index}", claimed=T0 + index)
        made.apply(put(T0 + index, item))
        made.apply(gone(T0 + index, item))
    assert len(made.deliveries.rows) == len(made.latencies) == 10
    assert len(made._gone) == 10
    assert len(made._seen) <= 10


def test_levels_are_sampled_when_time_passes_even_without_changes() -> None:
    """Samples are taken at fixed instants with the level that held then, however late they are asked for."""
    level = LevelHistory()
    level.set(T0, 3)
    level.set(T0 + 5, 1)
    level.advance(T0 + 9)
    assert list(level.samples) == [0, 3, 3, 1, 1]
    level.advance(T0 + 10_000)
    assert len(level.samples) == SAMPLES


def test_rates_forget_what_left_their_window() -> None:
    """Only the last minute counts, in whatever order it was told."""
    meter = RateMeter()
    for at in (T0, T0 - 30, T0 - 59, T0 - 61):
        meter.add(at)
    assert meter.count(T0) == 3
    assert meter.count(T0, 31) == 2
    assert meter.series(T0, 3, 20) == [1, 1, 1]


@pytest.mark.parametrize(("share", "expected"), [(0.5, 2), (0.99, 4), (0.0, 1), (0.25, 1)])
def test_percentiles_are_nearest_rank(share: float, expected: int) -> None:
    """The value at or above the share, of values in any order."""
    assert percentile([4, 1, 3, 2], share) == expected


def test_nothing_has_no_percentile() -> None:
    """No values, no answer."""
    assert percentile([], 0.5) is None


def test_unreadable_stamps_do_not_stop_the_reducer() -> None:
    """A sandbox with nonsense for instants still has a row."""
    import msgspec

    from appliance.api import structs

    body = {"metadata": {"name": "odd", "namespace": "x", "creationTimestamp": "soon"}, "spec": {"pauseTime": "later"}}
    made = world([put(T0, msgspec.convert(body, structs.Sandbox))])
    assert made.sandboxes["x", "odd"].created == T0
    assert stamp(T0) == "2026-01-02T12:00:00Z"


def test_a_report_gives_a_delivery_its_true_stages() -> None:
    """Seen from outside a delivery is an estimate; the report of its lock replaces it, whichever comes first."""
    item = sandbox("py-1", claimed=T0, lock="l1")
    told = Delivery("l1", T0 + 0.020, 0.001, 0.002, 0.007, 0.0, 0.010, "pool", 2)
    seen = [put(T0 + 0.050, item)]
    (guess,) = world(seen).claim_rows(T0)
    assert (guess.told, guess.seconds) == (False, pytest.approx(0.050))
    said = put(T0 + 2, report(T0 + 2, deliveries=[told]))
    for changes in ([*seen, said], [said, put(T0 + 3, item)]):
        made = world(changes)
        (row,) = made.claim_rows(T0)
        assert row.told and row.stages == (0.001, 0.002, 0.007, 0.0, 0.010)
        assert row.cause == "taken from the pool, after 2 lost to others"
        assert [took for _, took in made.latencies] == [pytest.approx(0.020)]


def test_claims_that_wait_or_failed_are_rows_with_their_cause() -> None:
    """One in line has no sandbox yet, one being prepared is its sandbox's row, a failure says why; old news is none."""
    waiting = [
        Waiting("default", "py", T0 - 3, "waiting in line to create a sandbox"),
        Waiting("default", "py", T0 - 2, "initialising the runtime", "l1"),
    ]
    failed = [Failure("default", "py", T0 - 9 + n, 5.0, "NoStock", f"none, {n}") for n in range(3)]
    said = report(T0, waiting=waiting, failures=failed)
    made = world([put(T0 - 2, sandbox("py-1", claimed=T0 - 2, lock="l1")), put(T0, said), put(T0 + 1, said)])
    prepared, line, none = made.claim_rows(T0)
    assert (prepared.key[1], prepared.phase, prepared.stage) == ("py-1", "claiming", "init")
    assert (line.phase, line.stage, line.cause) == ("claiming", "queue", "waiting in line to create a sandbox")
    assert (none.phase, none.cause) == ("failed", "3 times NoStock: none, 2")  # failures that are alike are one row
    assert {row.phase for row in made.claim_rows(T0 + 60)} == {"failed", "done"}
    made.apply(gone(T0 + 2, said))
    assert {row.phase for row in made.claim_rows(T0)} == {"failed", "done"}


def test_a_sandboxclaim_is_cut_as_its_slowest_delivery_was() -> None:
    """Of three deliveries the slowest is what the claim waited for; the whole stays what was seen."""
    members = [put(T0, sandbox(f"py-{n}", claimed=T0, claim="c", lock=f"l{n}")) for n in range(2)]
    told = [Delivery(f"l{n}", T0 + 1, 0.0, 0.1, 0.2 + n, 0.0, 0.3, "pool") for n in range(2)]
    steps = [claim("c", at=T0), claim("c", at=T0, wanted=2, got=2, started=T0, ended=T0 + 2)]
    made = world([put(T0, steps[0]), *members, put(T0 + 2, steps[1]), put(T0 + 3, report(T0 + 3, deliveries=told))])
    row = next(one for one in made.claim_rows(T0) if one.kind == "claim")
    assert row.told and row.seconds == pytest.approx(2.0)
    assert (row.stages[2], row.stages[4]) == (1.2, 0.3)
