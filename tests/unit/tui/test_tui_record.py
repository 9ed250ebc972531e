"""Recordings: what is written, what is left out, and that a replay is the same world."""

import gzip
from pathlib import Path

import pytest
from decks import T0, busy_changes, gone, pool, put, sandbox, world

from tui.feed.record import Recorder, read_recording, redacted
from tui.feed.replay import SPEEDS, Player
from tui.screens.seeking import position


def record(path: Path) -> list:
    """A recording of the busy fleet with a deletion at its end."""
    changes = [*busy_changes(), gone(T0, sandbox("py-aaaa5"))]
    with Recorder(path, "box") as write:
        for change in changes:
            write(change)
    return changes


def test_a_replay_reduces_to_the_very_same_world(tmp_path: Path) -> None:
    """The digest of the live world equals that of the recorded one, at the end and after scrubbing about."""
    changes = record(tmp_path / "r.gz")
    live = world(changes)
    live.advance(T0)
    head, read = read_recording(tmp_path / "r.gz")
    player = Player(read, head.label, lambda: 0.0)
    player.seek(player.end)
    assert player.world.digest() == live.digest()
    for to in (player.start, player.start + 100, player.start + 50, player.end):
        player.seek(to)
    assert player.world.digest() == live.digest()


def test_every_position_is_the_world_of_that_moment(tmp_path: Path) -> None:
    """Going back shows what was known then, not what came later."""
    changes = record(tmp_path / "r.gz")
    player = Player(changes, "", lambda: 0.0)
    player.seek(player.end)
    player.seek(T0 - 25)
    then = world([change for change in changes if change.at <= T0 - 25])
    then.advance(T0 - 25)
    assert player.world.digest() == then.digest()


def test_a_recording_that_was_cut_off_is_readable_up_to_the_cut(tmp_path: Path) -> None:
    """A killed recorder or a full disk costs the tail, not the recording."""
    changes = record(tmp_path / "r.gz")
    whole = (tmp_path / "r.gz").read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) * 2 // 3])
    _, read = read_recording(tmp_path / "cut.gz")
    assert 0 < len(read) < len(changes)
    assert [one.key for one in read] == [one.key for one in changes[: len(read)]]


def test_recordings_hold_no_values_of_environment_variables(tmp_path: Path) -> None:
    """What is meant to be sent to a colleague carries names of variables only, and is private on disk."""
    with Recorder(tmp_path / "r.gz") as write:
        write(put(T0, pool("py")))
    plain = gzip.decompress((tmp_path / "r.gz").read_bytes())
    assert b"geheim" not in plain
    assert b"TOKEN" in plain
    assert (tmp_path / "r.gz").stat().st_mode & 0o777 == 0o600
    assert redacted({"envVars": {"A": "1"}, "x": [{"env": [{"name": "B", "valueFrom": {}}]}]}) == {
        "envVars": {"A": "***"},
        "x": [{"env": [{"name": "B", "valueFrom": {}}]}],
    }


@pytest.mark.parametrize("content", [b"", b"plain text", gzip.compress(b'{"format":"x","version":1}\n')])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no recording is refused by name instead of playing nothing."""
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=r"recording|format"):
        read_recording(tmp_path / "f")


def test_playing_follows_the_clock_at_its_speed(tmp_path: Path) -> None:
    """A second of real time is as many seconds of the recording as the speed says; held, it is none."""
    time = [0.0]
    player = Player(busy_changes(), "", lambda: time[0])
    player.speed = 10.0
    time[0] = 2.0
    player.step()
    assert player.now() == pytest.approx(player.start + 20)
    player.paused = True
    time[0] = 9.0
    player.step()
    assert player.now() == pytest.approx(player.start + 20)
    player.paused = False
    time[0] = 9.5
    player.step()
    assert player.now() == pytest.approx(player.start + 25)


def test_speeds_have_ends() -> None:
    """Faster and slower stop at the fastest and the slowest."""
    player = Player(busy_changes(), "", lambda: 0.0)
    for _ in range(20):
        player.faster(1)
    assert player.speed == SPEEDS[-1]
    for _ in range(20):
        player.faster(-1)
    assert player.speed == SPEEDS[0]


def test_an_empty_recording_is_refused() -> None:
    """There is nothing to play in it."""
    with pytest.raises(ValueError, match="no changes"):
        Player([], "", lambda: 0.0)


@pytest.mark.parametrize(
    ("words", "expected"), [("50%", 150.0), ("+10", 10.0), ("-5", -5.0), ("11:56:00", 60.0), ("0%", 0.0)]
)
def test_positions_as_people_type_them(words: str, expected: float) -> None:
    """A share, an offset from here, or a time of day."""
    player = Player(busy_changes(), "", lambda: 0.0)
    player.end = player.start + 300
    assert position(words, player) - player.start == pytest.approx(expected)


def test_nonsense_is_no_position() -> None:
    """It is refused with examples."""
    player = Player(busy_changes(), "", lambda: 0.0)
    for words in ("", "soon", "x%", "25:00:00"):
        with pytest.raises(ValueError, match="expected 50%"):
            position(words, player)
