"""Logs and metrics that outlive their manager: written beside its socket, read by the next, whatever the file holds."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from appliance.manager import history, journal
from appliance.manager.guest import Guests, RuntimeMetrics
from appliance.manager.history import History
from appliance.manager.journal import Journal, Line
from appliance.manager.spawns import Spawned, Spawns
from appliance.manager.team_metrics import Sample, TeamMetrics


class Successor:
    """What a manager starts with in the place of ``world``'s."""

    def __init__(self, world: Any, path: Path) -> None:
        session: Any = None
        self.journal = Journal(world.clock.now)
        self.guests = Guests(session, world.clock.now)
        self.teams = TeamMetrics()
        self.spawns = Spawns()
        self.history = History(path, self.journal, self.guests, self.teams, self.spawns)

    def messages(self, sandbox_id: str) -> list[str]:
        """The lines of a sandbox; none when it is not known."""
        record = self.journal.find(sandbox_id)
        return [line.message for line in record.lines] if record else []


def _kept(world: Any, path: Path) -> History:
    return History(path, world.journal, world.guests, world.teams, world.spawns)


async def test_the_next_manager_knows_what_the_last_one_knew(world: Any, tmp_path: Path) -> None:
    """Lines, samples, team metrics; a sandbox that is gone meanwhile has ended, an hour later it is forgotten."""
    living, killed, lost = [(await world.create())["sandboxID"] for _ in range(3)]
    world.journal.add(living, [Line(world.clock.now(), "ü\n", "warn", {"a": "b"})])
    sample = RuntimeMetrics(1, 2, 0.5, 4, 5, 6, 7, 8)
    world.guests.restore(killed, [sample])
    world.teams.restore("default", [Sample(5, 3, 0.25)])
    await world.call("DELETE", f"/sandboxes/{killed}")
    await world.logs.drain()
    await _kept(world, tmp_path / "h").save()
    next_one = Successor(world, tmp_path / "h")
    next_one.history.recover({living})
    assert next_one.journal.find(living).lines == world.journal.find(living).lines  # type: ignore[union-attr]
    assert next_one.messages(killed) == ["Sandbox created", "Sandbox killed"]
    assert next_one.messages(lost) == ["Sandbox created", "Sandbox ended"]
    assert next_one.guests.history(killed) == (sample,) and next_one.guests.history(living) == ()
    assert next_one.teams.between("default", 0, 9) == [Sample(5, 3, 0.25)]
    entry = world.roster.get(living)
    next_one.journal.moved(entry, None, world.roster.run_of(entry))
    assert next_one.messages(living) == ["Sandbox created", "ü\n"]
    world.clock.offset += journal.RETENTION + timedelta(seconds=1)
    later = Successor(world, tmp_path / "h")
    later.history.recover({living})
    assert later.messages(killed) == [] and later.messages(living) == ["Sandbox created", "ü\n"]


async def test_the_file_is_bounded_and_the_newest_are_kept(
    world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What changed longest ago is left out where the file would be too large; small portions change nothing."""
    made = [(await world.create())["sandboxID"] for _ in range(3)]
    for one in (made[1], made[0], made[2]):
        world.journal.add(one, [Line(world.clock.now(), "x" * 1000)])
    monkeypatch.setattr(history, "MAX_BYTES", 3000)
    monkeypatch.setattr(history, "PORTION", 1)
    await _kept(world, tmp_path / "h").save()
    assert (tmp_path / "h").stat().st_size < 3000 and (tmp_path / "h").stat().st_mode & 0o777 == 0o600
    next_one = Successor(world, tmp_path / "h")
    next_one.history.recover(set(made))
    assert [bool(next_one.messages(one)) for one in made] == [True, False, True]


async def test_what_is_broken_costs_only_itself(world: Any, tmp_path: Path) -> None:
    """No file, damaged lines, a disk that takes nothing: the manager starts and goes on."""
    one = (await world.create())["sandboxID"]
    file = tmp_path / "h"
    Successor(world, file).history.recover(set())
    await _kept(world, file).save()
    file.write_bytes(b'{"type":"sandbox"}\n\xff\n' + file.read_bytes() + b'{"type":"oth')
    next_one = Successor(world, file)
    next_one.history.recover({one})
    assert next_one.messages(one) == ["Sandbox created"]
    await _kept(world, tmp_path / "nowhere" / "h").save()


async def test_nothing_new_is_not_written_again(world: Any, tmp_path: Path) -> None:
    """An idle manager leaves its file alone."""
    kept = _kept(world, tmp_path / "h")
    await world.create()
    await kept.save()
    (tmp_path / "h").unlink()
    await kept.save()
    assert not (tmp_path / "h").exists()
    await world.create()
    await kept.save()
    assert (tmp_path / "h").exists()


async def test_deliveries_are_counted_on_by_the_next_manager(world: Any, tmp_path: Path) -> None:
    """Those that it finds living are counted once: by the one before, or here when they are younger than its file."""
    before = [(await world.create())["sandboxID"] for _ in range(2)]
    await world.call("DELETE", f"/sandboxes/{before[0]}")
    await _kept(world, tmp_path / "h").save()
    world.clock.offset += timedelta(seconds=5)
    after = (await world.create())["sandboxID"]
    next_one = Successor(world, tmp_path / "h")
    next_one.history.recover({before[1], after})
    for entry, _ in world.roster.delivered():
        next_one.spawns.recount(entry)
    young = world.roster.get(after)
    assert list(next_one.spawns.all()) == [("default", "python", Spawned(3, young.started_at))]
    next_one.spawns.moved(young, None, world.roster.run_of(young))  # seen again, as after a failed deletion
    assert next(next_one.spawns.all())[2].count == 3
