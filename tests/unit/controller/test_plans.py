"""The pure deciders, case by case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from appliance.api import labels, times
from appliance.api.structs import Sandbox, SandboxSet, SandboxSetSpec, SandboxSpec
from appliance.controller import budget, pod_body, pool_plan, timers
from appliance.controller.pausing import PauseKind, Unpausable, pause_kind
from appliance.controller.revision import TemplateProblem, fnv32a, hash_of, make_revision

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def member(name, state="available", revision="new", created="2026-01-01T00:00:00Z", **meta):
    phases = {"available": "Running", "creating": "Pending", "dead": "Failed"}
    owner = {"apiVersion": labels.API_VERSION, "kind": "SandboxSet", "name": "ci", "uid": "u", "controller": True}
    body = {
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": created,
            "labels": {labels.TEMPLATE_HASH: revision},
            "ownerReferences": [owner],
            **meta,
        },
        "status": {"phase": phases[state], "conditions": [{"type": "Ready", "status": str(state == "available")}]},
    }
    return msgspec.convert(body, Sandbox)


def plan(members, unseen=0, **spec):
    found = pool_plan.census(members, "new", NOW, unseen=unseen)
    made = pool_plan.decide(msgspec.convert(spec, SandboxSetSpec), found)
    return made.create, [item.name for item in made.remove], [item.name for item in made.sweep]


@pytest.mark.parametrize(
    ("members", "unseen", "spec", "expected"),
    [
        ([], 0, {"replicas": 3}, (3, [], [])),
        ([], 2, {"replicas": 3}, (1, [], [])),
        ([member("a")], 0, {"replicas": 3}, (2, [], [])),
        ([member("a", "creating")], 0, {"replicas": 3}, (2, [], [])),
        ([member("a", "dead")], 0, {"replicas": 1}, (1, [], ["a"])),
        ([member("a", deletionTimestamp="2026-01-01T00:00:00Z")], 0, {"replicas": 1}, (1, [], [])),
        ([], 0, {"replicas": 10, "scaleStrategy": {"maxUnavailable": "25%"}}, (3, [], [])),
        ([member("a", "creating")], 0, {"replicas": 10, "scaleStrategy": {"maxUnavailable": 2}}, (1, [], [])),
        ([], 0, {"replicas": 10, "scaleStrategy": {"maxUnavailable": 0}}, (0, [], [])),
        ([member("a"), member("b", revision="old")], 0, {"replicas": 1}, (0, ["b"], [])),
        ([member("a"), member("b", "creating")], 0, {"replicas": 1}, (0, ["b"], [])),
        ([member("y", created="2026-01-01T02:00:00Z"), member("o")], 0, {"replicas": 1}, (0, ["o"], [])),
        ([member(n, revision="old") for n in "abc"], 0, {"replicas": 3}, (0, ["a"], [])),
        ([member("a", "creating", "old"), member("b", revision="old")], 0, {"replicas": 2}, (0, ["a", "b"], [])),
        ([member("a", "creating"), member("b", revision="old")], 0, {"replicas": 2}, (0, [], [])),
        (
            [member(n, revision="old") for n in "abcd"],
            0,
            {"replicas": 4, "updateStrategy": {"maxUnavailable": "50%"}},
            (0, ["a", "b"], []),
        ),
        (
            [member("a", annotations={labels.OWNER: labels.OWNER_SCALE_DOWN})],
            0,
            {"replicas": 0},
            (0, [], ["a"]),
        ),
    ],
)
def test_pool_plan(members, unseen, spec, expected):
    """Refill, throttle, shrink order, sweep and rolling update, one case each."""
    assert plan(members, unseen, **spec) == expected


@pytest.mark.parametrize(
    ("value", "total", "expected"), [(3, 10, 3), ("20%", 10, 2), ("20%", 1, 1), ("0%", 9, 0), ("4", 9, 4)]
)
def test_budget(value, total, expected):
    """Counts and percentages, the latter rounded up."""
    assert budget.resolve(value, total, "f") == expected


@pytest.mark.parametrize("value", [-1, "many", "-5%", True])
def test_budget_names_the_field(value):
    """An unreadable budget is an error that names its field."""
    with pytest.raises(ValueError, match=r"spec\.x"):
        budget.resolve(value, 1, "spec.x")


def at(**delta):
    return times.format(NOW + timedelta(**delta))


def timed(phase="Running", annotations=None, **spec):
    meta = {"name": "s", "annotations": annotations or {}}
    return msgspec.convert({"metadata": meta, "spec": spec, "status": {"phase": phase}}, Sandbox)


KEEP = {labels.RESERVE_PAUSED: "24h"}


@pytest.mark.parametrize(
    ("sandbox", "stroke", "wait"),
    [
        (timed(), None, None),
        (timed(shutdownTime=at(seconds=30)), None, 30),
        (timed(shutdownTime=at(seconds=-1)), "delete", None),
        (timed("Failed", shutdownTime=at(seconds=-1)), "delete", None),
        (timed("Paused", paused=True, shutdownTime=at(seconds=-1)), "delete", None),
        (timed(pauseTime=at(seconds=-1)), "pause", None),
        (timed(pauseTime=at(seconds=10), shutdownTime=at(seconds=20)), None, 10),
        (timed("Paused", paused=True, pauseTime=at(seconds=-1), shutdownTime=at(seconds=20)), None, 20),
        (timed("Failed", pauseTime=at(seconds=-1)), None, None),
        (timed(pauseTime=at(seconds=-1), shutdownTime=at(seconds=-1)), "delete", None),
        (timed(annotations=KEEP, pauseTime=at(seconds=-1), shutdownTime=at(seconds=-1)), "pause", None),
    ],
)
def test_timers(sandbox, stroke, wait):
    """Which timer strikes in which phase, and how long until the next."""
    due = timers.due(sandbox, NOW)
    assert (due.stroke, due.next) == (stroke, wait)


def test_paused_retention_moves_both_timers():
    """An automatic pause with retention keeps the sandbox for that long; "forever" is a hundred years."""
    sandbox = timed(annotations=KEEP, pauseTime=at(seconds=-1), shutdownTime=at(seconds=5))
    assert timers.pause_patch(sandbox, NOW)["spec"] == {
        "paused": True,
        "shutdownTime": at(days=1),
        "pauseTime": at(days=1),
    }
    forever = timed(annotations={labels.RESERVE_PAUSED: "forever"})
    assert timers.retention(forever) == timedelta(days=36500)


@pytest.mark.parametrize(
    ("spec", "freezer", "expected"),
    [
        ({}, True, PauseKind.FREEZE),
        ({}, False, PauseKind.STOP),
        ({"pauseStrategy": {"type": "Stop"}}, True, PauseKind.STOP),
        ({"pauseStrategy": {"type": "Freeze"}}, False, PauseKind.FREEZE),
        ({"persistentContents": ["memory"]}, False, PauseKind.FREEZE),
        ({"persistentContents": ["memory", "filesystem"]}, True, PauseKind.FREEZE),
        ({"persistentContents": ["filesystem"], "pauseStrategy": {"type": "Freeze"}}, True, PauseKind.FREEZE),
        ({"pauseStrategy": {"type": "Stop"}, "persistentContents": ["memory"]}, True, None),
        ({"pauseStrategy": {"type": "Hibernate"}}, True, None),
    ],
)
def test_pause_kind(spec, freezer, expected):
    """The strategy that applies; None: refused with the field's name."""
    asked = msgspec.convert(spec, SandboxSpec)
    if expected is None:
        with pytest.raises(Unpausable, match=r"spec\."):
            pause_kind(asked, freezer=freezer)
    else:
        assert pause_kind(asked, freezer=freezer) is expected


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        ({"persistentContents": ["filesystem"]}, False),
        ({"persistentContents": ["filesystem"], "pauseStrategy": {"type": "Stop"}}, False),
        ({}, True),
        ({"pauseStrategy": {"type": "Freeze"}}, True),
        ({"persistentContents": ["memory"]}, True),
    ],
)
def test_files_without_memory_are_kept_where_a_node_can(spec, files):
    """persistentContents filesystem, or a wish for files alone, ends processes and keeps files, or is refused."""
    asked = msgspec.convert(spec, SandboxSpec)
    assert pause_kind(asked, freezer=True, keeps_files=True, files=files) is PauseKind.HALT
    with pytest.raises(Unpausable, match="cannot end processes and keep files"):
        pause_kind(asked, freezer=True, keeps_files=False, files=files)


def test_hash_is_fnv_1a_in_the_safe_alphabet():
    """Published FNV-1a vectors; and a hash that ignores key order."""
    assert (fnv32a(b""), fnv32a(b"a"), fnv32a(b"foobar")) == (0x811C9DC5, 0xE40C292C, 0xBF9CF968)
    assert hash_of({"a": 1, "b": 2}) == hash_of({"b": 2, "a": 1}) != hash_of({"a": 1})
    assert set(hash_of("x")) <= set("bcdfghjklmnpqrstvwxz2456789")


@pytest.mark.parametrize("spec", [{}, {"template": {"spec": {}}, "templateRef": {"name": "x"}}])
def test_a_set_needs_exactly_one_template(spec):
    """Neither or both of template and templateRef are refused by name."""
    owner = msgspec.convert({"metadata": {"name": "ci"}, "spec": spec}, SandboxSet)
    with pytest.raises(TemplateProblem, match=r"spec\.template"):
        make_revision(owner, None)


def body(container=None, **options):
    sandbox = msgspec.convert({"metadata": {"name": "s", "namespace": "n", "uid": "u"}}, Sandbox)
    env = [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r/"}]
    template = {"spec": {"containers": [{"name": "c", "env": env, **(container or {})}], **options}}
    claims = [{"metadata": {"name": "data"}, "spec": {}}]
    return pod_body.pod_body(sandbox, template, claims, template_hash="h", runtime_image="ours")["spec"]


def test_pod_body():
    """Runtime hook (an existing one chained), runtime image, no token, PVC volume in place of a named one."""
    hook = {"lifecycle": {"postStart": {"exec": {"command": ["sh", "-c", "true"]}}}}
    init = [{"name": "i", "image": "vendor", "env": [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}]}]
    spec = body(hook, initContainers=init, volumes=[{"name": "data", "emptyDir": {}}])
    command = spec["containers"][0]["lifecycle"]["postStart"]["exec"]["command"]
    assert command == ["/mnt/r/appliance-runtime", "start", "--", "sh", "-c", "true"]
    assert spec["initContainers"][0]["image"] == "ours" and "lifecycle" not in spec["initContainers"][0]
    assert spec["automountServiceAccountToken"] is False
    assert spec["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-s"}}]


@pytest.mark.parametrize(("policy", "waits"), [("Always", True), (None, False)])
def test_the_runtime_is_placed_before_anybody_starts_it(policy, waits):
    """A sidecar is waited for by its hook; a plain init container places the runtime and ends."""
    init = {"name": "i", "env": [{"name": labels.WORKSPACE_ENV, "value": "/mnt/r"}], "args": ["theirs"]}
    if policy:
        init["restartPolicy"] = policy
    placed = body({}, initContainers=[init])["initContainers"][0]
    inject = [labels.IMAGE_PROGRAM, "inject"]
    if waits:
        assert placed["lifecycle"]["postStart"]["exec"]["command"] == [*inject, "--await"]
        assert "command" not in placed
    else:
        assert placed["command"] == [*inject, "--once"]
        assert not {"args", "lifecycle"} & set(placed)


def test_pod_body_refuses_what_cannot_be_chained():
    """A postStart hook that is no exec names its field."""
    hook = {"lifecycle": {"postStart": {"httpGet": {"path": "/"}}}}
    with pytest.raises(TemplateProblem, match=r"containers\[0\].lifecycle.postStart.*httpGet"):
        body(hook)
