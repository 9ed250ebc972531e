"""Logs that stay small under writers that never reopen them."""

from __future__ import annotations

from pathlib import Path

from appliance.box import logs


def test_a_large_log_is_moved_aside_under_its_writer(tmp_path: Path) -> None:
    """The writer's next line is the first of the new log; the old lines are in the predecessor; small logs stay."""
    (tmp_path / "quiet.log").write_bytes(b"few\n")
    with (tmp_path / "busy.log").open("ab", buffering=0) as writer:
        for text in (b"first\n" * 10, b"second\n" * 10, b"third\n"):
            writer.write(text)
            logs.move_aside(tmp_path, keep=50)
    assert (tmp_path / "busy.log").read_bytes() == b"third\n"
    assert (tmp_path / "busy.log.1").read_bytes() == b"second\n" * 10
    assert (tmp_path / "quiet.log").read_bytes() == b"few\n"


def test_a_log_that_cannot_be_kept_is_cut_all_the_same(tmp_path: Path) -> None:
    """Where the predecessor cannot be written the log still does not grow."""
    (tmp_path / "busy.log").write_bytes(b"x" * 100)
    (tmp_path / "busy.log.1").mkdir()
    logs.move_aside(tmp_path, keep=50)
    assert (tmp_path / "busy.log").read_bytes() == b""
