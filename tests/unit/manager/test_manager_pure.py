"""The pure parts: sizes, deadlines, options, run states, histograms."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlencode

import pytest

from appliance.api import conditions, labels
from appliance.api.quantities import quantity
from appliance.api.structs import Condition, Meta, Sandbox, SandboxSpec, SandboxStatus
from appliance.gateway.routes import Credentials
from appliance.manager import deadlines, options, runstate, sizes
from appliance.manager.deadlines import Timers
from appliance.manager.observed import BUCKETS, Histogram
from appliance.manager.options import ABSENT, Options
from appliance.manager.runstate import Run
from appliance.manager.signing import signed

NOW = datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("500m", "0.5"), ("1Gi", 2**30), ("1.5Mi", 1572864), ("2k", 2000), ("1e3", 1000), (".5", "0.5")],
)
def test_quantities(text: str, value: object) -> None:
    """Every form that Kubernetes writes is read exactly."""
    assert quantity(text) == Decimal(str(value))


@pytest.mark.parametrize("text", ["", "x", "1GiB", "1 Gi", "--1", "1e999"])
def test_nonsense_is_no_quantity(text: str) -> None:
    """Anything else is refused, and counts as absent in a template."""
    with pytest.raises(ValueError, match="quantity"):
        quantity(text)
    template = {"spec": {"containers": [{"resources": {"limits": {"cpu": text, "memory": "64Mi"}}}]}}
    assert sizes.sizes_of(template) == sizes.Sizes(cpu_count=0, memory_mb=64)


def test_sizes_sum_containers_round_cpu_up_and_count_volumes() -> None:
    """Limits before requests; half a CPU is one; volume claims are disk."""
    containers = [
        {"resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"ephemeral-storage": "1Gi"}}},
        {"resources": {"requests": {"cpu": "1"}}},
        {},
    ]
    claims = [{"spec": {"resources": {"requests": {"storage": "2Gi"}}}}]
    found = sizes.sizes_of({"spec": {"containers": containers}}, claims)
    assert found == sizes.Sizes(cpu_count=2, memory_mb=1024, disk_mb=3072, layer_mb=1024)
    assert sizes.sizes_of(None) == sizes.Sizes()
    assert found.on(10240) == found
    assert sizes.sizes_of(None, claims).on(10240).disk_mb == 2048 + 10240


def test_deadlines_round_up_and_pause_before_they_kill() -> None:
    """A run never ends early; with autoPause the shutdown comes after the retention, or never."""
    end = datetime(2026, 1, 2, 3, 5, 6, tzinfo=UTC)
    assert deadlines.running(NOW, 60, auto_pause=False, retention=None) == Timers(shutdown=end)
    assert deadlines.running(NOW, 60, auto_pause=True, retention=None) == Timers(pause=end)
    kept = deadlines.running(NOW, 60, auto_pause=True, retention=timedelta(hours=1))
    assert kept == Timers(pause=end, shutdown=end + timedelta(hours=1)) and kept.end == end
    assert Timers(pause=end).patch() == {"shutdownTime": None, "pauseTime": "2026-01-02T03:05:06Z"}
    assert deadlines.extended(Timers(), Timers(shutdown=end)) is None


def test_a_paused_sandbox_of_a_claim_keeps_its_own_end() -> None:
    """Without our options its shutdownTime belongs to whoever set it; broken annotations count as absent."""
    spec = SandboxSpec(shutdown_time="2026-02-01T00:00:00Z")
    claimed = Sandbox(meta=Meta(annotations={labels.E2B_LIFECYCLE: "{", labels.RESERVE_PAUSED: "soon"}), spec=spec)
    assert options.options_of(claimed) is ABSENT and deadlines.retention_of(claimed) is None
    assert deadlines.paused(NOW, claimed, ABSENT).shutdown == datetime(2026, 2, 1, tzinfo=UTC)
    assert deadlines.paused(NOW, claimed, Options()) == Timers()


def test_options_survive_their_annotation() -> None:
    """What is written is read again, and defaults cost no bytes."""
    given = Options(timeout=7, auto_pause=True, network={"denyOut": ["0.0.0.0/0"]}, mask_host="a")
    assert options.options_of(Sandbox(meta=Meta(annotations={labels.E2B_LIFECYCLE: options.encode(given)}))) == given
    assert options.encode(Options()) == "{}"


def _sandbox(phase: str, *, paused: bool = False, **status: str) -> Sandbox:
    found = [Condition(type=name, status=value) for name, value in status.items()]
    return Sandbox(spec=SandboxSpec(paused=paused), status=SandboxStatus(phase=phase, conditions=found))


@pytest.mark.parametrize(
    ("sandbox", "run"),
    [
        (_sandbox(""), Run.STARTING),
        (_sandbox("Pending"), Run.STARTING),
        (_sandbox("Running", Ready="True"), Run.RUNNING),
        (_sandbox("Running", Ready="False"), Run.RUNNING),
        (_sandbox("Running", paused=True, Ready="True"), Run.PAUSING),
        (_sandbox("Paused", paused=True), Run.PAUSING),
        (_sandbox("Paused", paused=True, SandboxPaused="True"), Run.PAUSED),
        (_sandbox("Paused", SandboxPaused="True"), Run.RESUMING),
        (_sandbox("Resuming"), Run.RESUMING),
        (_sandbox("Failed"), Run.GONE),
        (_sandbox("Terminating"), Run.GONE),
        (Sandbox(meta=Meta(deletion_timestamp="2026-01-01T00:00:00Z")), Run.GONE),
    ],
)
def test_run_states(sandbox: Sandbox, run: Run) -> None:
    """Phase, conditions and spec.paused tell where a delivered sandbox is."""
    assert runstate.run_of(sandbox, NOW) is run


def test_a_pause_failure_of_an_earlier_attempt_does_not_count() -> None:
    """Only what the controller says about this generation ends the wait."""
    failed = Condition(type=conditions.SANDBOX_PAUSED, status="False", reason="Failed", message="why")
    old = Sandbox(status=SandboxStatus(observed_generation=3, conditions=[failed]))
    assert runstate.pause_failure(old, since=4) is None
    assert runstate.pause_failure(old, since=3) == "why"


def test_histogram_buckets_are_cumulative() -> None:
    """Each line counts everything up to its bound."""
    histogram = Histogram()
    for seconds in (0.001, 0.006, 1000.0):
        histogram.add(seconds)
    lines = list(histogram.render("x", 'a="b"'))
    assert lines[0] == 'x_bucket{a="b",le="0.005"} 1' and lines[1] == 'x_bucket{a="b",le="0.01"} 2'
    assert lines[len(BUCKETS)] == 'x_bucket{a="b",le="+Inf"} 3' and lines[-1] == 'x_count{a="b"} 3'


@pytest.mark.parametrize(
    ("expiration", "holds"), [(None, True), ("1000", False), ("4000000000", True), ("", False), ("soon", False)]
)
def test_a_signed_url_wakes_only_while_it_holds(expiration: str | None, holds: bool) -> None:
    """As the runtime would judge it: an expiration that is there is part of the signature, and must be a number."""
    parts = ["x", "read", "", "token", *([] if expiration is None else [expiration])]
    digest = base64.b64encode(hashlib.sha256(":".join(parts).encode()).digest()).decode().rstrip("=")
    query = {"path": "x", "signature": f"v1_{digest}"}
    query |= {} if expiration is None else {"signature_expiration": expiration}
    shown = Credentials(method=b"GET", url=f"/files?{urlencode(query)}".encode(), access_token=None, traffic_token=None)
    assert signed("token", shown, NOW) is holds
    assert not signed("other", shown, NOW)
