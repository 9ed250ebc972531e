"""Logs and metrics: what is kept of a sandbox, in which form it is told, for how long, and to whom."""

import json
from collections import deque
from datetime import timedelta
from typing import Any

import pytest

from appliance.api import times
from appliance.api.kinds import SANDBOX
from appliance.manager import journal, team_metrics
from appliance.manager.journal import Journal, Line
from appliance.manager.runstate import Run
from appliance.manager.sampler import PER_ROUND
from appliance.manager.sandbox_logs import Question, select
from appliance.manager.team_metrics import TeamMetrics


async def _logs(world: Any, sandbox_id: str, query: str = "", version: str = "/v2") -> Any:
    answer = await world.call("GET", f"{version}/sandboxes/{sandbox_id}/logs?{query}")
    assert answer.status_code == 200, await answer.get_data()
    return await answer.get_json()


async def test_a_life_is_in_the_log_and_readable_after_its_end(world: Any) -> None:
    """Creation, pause, resume and kill are told in order; an hour after the end nothing is."""
    sandbox_id = (await world.create())["sandboxID"]
    await world.call("POST", f"/sandboxes/{sandbox_id}/pause")
    await world.call("POST", f"/sandboxes/{sandbox_id}/connect", json={"timeout": 60})
    await world.call("DELETE", f"/sandboxes/{sandbox_id}")
    found = [one["message"] for one in (await _logs(world, sandbox_id))["logs"]]
    assert [one for one in found if "being" not in one] == [
        "Sandbox created",
        "Sandbox paused",
        "Sandbox resumed",
        "Sandbox killed",
    ]
    world.clock.offset += journal.RETENTION + timedelta(seconds=1)
    assert (await world.call("GET", f"/v2/sandboxes/{sandbox_id}/logs")).status_code == 404


async def test_v1_lines_are_json_with_level_and_logger(world: Any) -> None:
    """The CLI parses each line as JSON and calls methods of its level and logger: both are always strings."""
    world.cluster.output = "2026-01-01T00:00:00.5Z plain text\n2026-01-01T00:00:01Z " + json.dumps(
        {"message": "structured", "level": "ERROR", "code": 7}
    )
    sandbox_id = (await world.create())["sandboxID"]
    answer = await _logs(world, sandbox_id, version="")
    lines = [json.loads(one["line"]) for one in answer["logs"]]
    assert [one["message"] for one in lines] == ["plain text", "structured", "Sandbox created"]
    assert [one["level"] for one in lines] == ["info", "error", "info"]
    assert all(isinstance(one["logger"], str) for one in lines) and lines[1]["code"] == "7"
    assert [one["message"] for one in answer["logEntries"]] == [one["message"] for one in lines]


async def test_v2_filters_order_and_bounds(world: Any) -> None:
    """Cursor, direction, level, search and limit select; what is malformed is named in a 400."""
    stamps = [f"2026-01-01T00:00:0{second}Z" for second in range(3)]
    levels = ("debug", "warn", "error")
    world.cluster.output = "\n".join(
        f"{at} {json.dumps({'message': f'm{number}', 'level': levels[number]})}" for number, at in enumerate(stamps)
    )
    sandbox_id = (await world.create())["sandboxID"]
    cursor = int(times.parse(stamps[1]).timestamp() * 1000)
    for query, expected in (
        ("limit=3", ["m0", "m1", "m2"]),
        (f"cursor={cursor}&limit=2", ["m1", "m2"]),
        (f"cursor={cursor}&direction=backward", ["m1", "m0"]),
        ("level=warn&search=m", ["m1", "m2"]),
        ("search=m0", ["m0"]),
    ):
        assert [one["message"] for one in (await _logs(world, sandbox_id, query))["logs"]] == expected, query
    for query in ("limit=0", "limit=1001", "cursor=x", "direction=up", "level=loud", f"search={'x' * 257}"):
        answer = await world.call("GET", f"/v2/sandboxes/{sandbox_id}/logs?{query}")
        assert answer.status_code == 400 and query.partition("=")[0] in (await answer.get_json())["message"]


async def test_output_outlives_a_sandbox_that_somebody_else_ended(world: Any) -> None:
    """Deleted in the cluster, by its time-out or through another manager: its output is kept, once."""
    world.cluster.output = "2026-01-01T00:00:00.5Z last words"
    sandbox_id = (await world.create())["sandboxID"]
    name = world.stored(sandbox_id)["metadata"]["name"]
    world.cluster.change(SANDBOX, "default", name, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})
    world.cluster.remove(SANDBOX, "default", name)
    await world.logs.drain()
    messages = [one["message"] for one in (await _logs(world, sandbox_id, ""))["logs"]]
    assert messages == ["last words", "Sandbox created", "Sandbox ended"]


async def test_a_restart_is_in_the_log_once(world: Any) -> None:
    """What the controller says of a lost memory is a warning at its instant, once, and once more for the next."""
    sandbox_id = (await world.create())["sandboxID"]
    name = world.stored(sandbox_id)["metadata"]["name"]
    stored = world.stored(sandbox_id)["status"].get("conditions", [])
    for number in (1, 1, 2):
        at = f"2099-01-01T00:00:0{number}Z"
        said = {"type": "Restarted", "status": "True", "reason": "ContainerEnded", "lastTransitionTime": at}
        status = {"conditions": [*stored, {**said, "message": f"memory lost (restart {number})"}]}
        world.cluster.change(SANDBOX, "default", name, {"status": status})
        world.cluster.change(SANDBOX, "default", name, {"metadata": {"annotations": {"seen": f"again{number}"}}})
    lines = (await _logs(world, sandbox_id, "level=warn"))["logs"]
    assert [(one["message"], one["level"], one["timestamp"][:19]) for one in lines] == [
        (f"Sandbox restarted: memory lost (restart {number})", "warn", f"2099-01-01T00:00:0{number}")
        for number in (1, 2)
    ]
    book = Journal(world.clock.now)  # the next manager, going on with what this one left
    book.restore(sandbox_id, world.journal.find(sandbox_id))
    before = len(book.find(sandbox_id).lines)
    book.moved(world.roster.get(sandbox_id), None, Run.RUNNING)
    assert sum("restarted" in one.message for one in book.find(sandbox_id).lines) == 2 <= before


async def test_history_is_the_teams_own(world: Any) -> None:
    """Another team's key finds neither logs nor metrics, of a living or of an ended sandbox."""
    made = await world.call("POST", "/api-keys", json={"name": "k", "teamName": "other"})
    other = (await made.get_json())["key"]
    sandbox_id = (await world.create())["sandboxID"]
    for _ in range(2):
        for path in (
            f"/v2/sandboxes/{sandbox_id}/logs",
            f"/sandboxes/{sandbox_id}/logs",
            f"/sandboxes/{sandbox_id}/metrics",
        ):
            assert (await world.call("GET", path, key=other)).status_code == 404
        await world.call("DELETE", f"/sandboxes/{sandbox_id}")
    assert (await world.call("GET", f"/sandboxes/{sandbox_id}/metrics")).status_code == 200


async def test_the_journal_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many lines per sandbox, so many sandboxes: the oldest go."""
    monkeypatch.setattr(journal, "MAX_SANDBOXES", 2)
    made = [(await world.create())["sandboxID"] for _ in range(3)]
    entries = [world.roster.get(one) for one in made]
    book = Journal(world.clock.now)
    for entry in entries:
        book.moved(entry, None, Run.RUNNING)
    assert [book.find(one) is not None for one in made] == [False, True, True]
    book.add(made[2], [Line(times.now(), str(number)) for number in range(journal.KEPT + 5)])
    record = book.find(made[2])
    assert record is not None and len(record.lines) == journal.KEPT


async def test_what_all_sandboxes_have_written_together_is_bounded(world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it the sandbox that changed longest ago is forgotten whole; the one that writes keeps its own lines."""
    made = [(await world.create())["sandboxID"] for _ in range(3)]
    book = Journal(world.clock.now)
    for one in made:
        book.moved(world.roster.get(one), None, Run.RUNNING)
    line = Line(times.now(), "x" * 1000)
    monkeypatch.setattr(journal, "MAX_TEXT", 10 * (1000 + journal.LINE_COST) + 900)  # and two lines of creation
    book.add(made[1], [line] * 4)
    book.add(made[2], [line] * 4)
    assert [book.find(one) is not None for one in made] == [True, True, True]
    book.add(made[2], [line] * 2)
    assert [book.find(one) is not None for one in made] == [False, True, True]
    book.restore(made[0], journal.Record("default", "t", deque([line] * 9)))
    assert [book.find(one) is not None for one in made] == [True, False, False]


def test_selection_keeps_the_order_of_time() -> None:
    """Lines of two sources are merged by their instants."""
    now = times.now()
    lines = [Line(now + timedelta(seconds=second), str(second)) for second in (2, 0, 1)]
    assert [one.message for one in select(lines, Question())] == ["0", "1", "2"]
    assert [one.message for one in select(lines, Question(backward=True, limit=1))] == ["2"]


async def test_the_sampler_asks_the_longest_waiting_within_its_budget(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round asks at most its budget, each sandbox once per interval, paused ones never."""
    asked: list[str] = []

    async def sample(entry: Any) -> None:
        asked.append(entry.sandbox_id)
        world.guests._asked[entry.sandbox_id] = world.clock.now().timestamp()

    monkeypatch.setattr(world.guests, "sample", sample)
    await world.add_pool("many", PER_ROUND + 5)
    made = [(await world.create(templateID="many"))["sandboxID"] for _ in range(PER_ROUND + 5)]
    await world.call("POST", f"/sandboxes/{made[0]}/pause")
    await world.sampler.round()
    assert len(asked) == PER_ROUND
    await world.sampler.round()
    assert sorted(asked) == sorted(made[1:])
    await world.sampler.round()
    assert len(asked) == len(made) - 1


async def test_team_metrics_count_running_sandboxes_and_starts(world: Any) -> None:
    """Samples hold what ran and what was started since; another team is 403, a bad window or metric 400."""
    await world.sampler.round()
    await world.create()
    world.clock.offset += timedelta(seconds=team_metrics.INTERVAL)
    world.guests.sample = _nothing
    await world.sampler.round()
    found = await (await world.call("GET", "/teams/default/metrics")).get_json()
    assert found[-1]["concurrentSandboxes"] == 1
    assert found[-1]["sandboxStartRate"] == pytest.approx(1 / team_metrics.INTERVAL, rel=0.05)
    path = "/teams/default/metrics/max?metric="
    assert (await (await world.call("GET", f"{path}concurrent_sandboxes")).get_json())["value"] == 1
    assert (await world.call("GET", f"{path}height")).status_code == 400
    late = await world.call("GET", "/teams/default/metrics?start=1&end=1764300000000")
    assert late.status_code == 400 and "end time cannot be after" in (await late.get_json())["message"]
    answer = await world.call("GET", "/teams/default/metrics?start=2&end=1")
    assert answer.status_code == 400
    assert (await answer.get_json())["message"].startswith("end time cannot be")
    made = await (await world.call("POST", "/api-keys", json={"name": "k", "teamName": "other"})).get_json()
    assert (await world.call("GET", "/teams/default/metrics", key=made["key"])).status_code == 403


async def _nothing(_: Any) -> None:
    return None


def test_a_team_without_sandboxes_is_forgotten() -> None:
    """Only teams with something to tell are kept, each with a bounded number of samples."""
    teams = TeamMetrics()
    teams.sample({"a": 1}, 0.0)
    for number in range(1, team_metrics.KEPT + 2):
        teams.sample({}, number * 30.0)
    assert teams.between("a", 0, 1 << 40) == []


def test_the_highest_of_no_samples_is_zero_now() -> None:
    """A team that ran nothing has a maximum all the same."""
    assert team_metrics.highest([], "concurrent_sandboxes", 5) == {
        "timestamp": "1970-01-01T00:00:05Z",
        "timestampUnix": 5,
        "value": 0,
    }
