"""``!command`` in a cell."""

from __future__ import annotations

from typing import Any


def test_output_and_status(shared: Any) -> None:
    """Both channels arrive as output with plain newlines, and the status is kept."""
    events = shared.run("!echo a; echo b >&2; exit 3")
    assert "".join(e["text"] for e in events if e["type"] == "stdout") == "a\nb\n"
    assert shared.text("_exit_code") == "3"


def test_variables_are_expanded(shared: Any) -> None:
    """Python names in braces reach the command."""
    events = shared.run("who = 'me'\n!printf '%s' {who}")
    assert [e["text"] for e in events if e["type"] == "stdout"] == ["me"]
