"""Jupyter messages as lines of the event stream."""

from __future__ import annotations

import json

import pytest

from appliance.runtime.interpreter import events


@pytest.mark.parametrize(
    ("text", "shown"), [("'a'", "a"), ('"a"', "a"), ("'a\"", "'a\""), ("'", "'"), ("''", ""), ("12", "12")]
)
def test_one_pair_of_quotes_is_removed(text: str, shown: str) -> None:
    """A string's repr reads as the string; anything else stays."""
    assert events.result({"text/plain": text}, main=True)["text"] == shown


def test_unknown_mime_types_go_to_extra() -> None:
    """Known types have members of their own, the rest is kept under its name."""
    event = events.result({"image/png": "AA==", "a/b": 1}, main=False)
    assert event == {"type": "result", "png": "AA==", "extra": {"a/b": 1}, "is_main_result": False}


def test_an_error_is_told_once_and_without_colour() -> None:
    """The reply repeats the published error; clients must see one."""
    translator = events.Translator()
    content = {"ename": "E", "evalue": "v", "traceback": ["\x1b[31mred\x1b[0m", "two"], "status": "error"}
    first = translator.event("error", content, "")
    assert first == {"type": "error", "name": "E", "value": "v", "traceback": "red\ntwo"}
    assert translator.event("execute_reply", content, "") is None


def test_an_aborted_reply_is_an_error() -> None:
    """A cell that never ran does not look like one that succeeded."""
    event = events.Translator().event("execute_reply", {"status": "aborted"}, "")
    assert event is not None
    assert event["name"] == "ExecutionAborted"


def test_output_carries_its_time() -> None:
    """Stream output keeps its channel, text and timestamp."""
    event = events.Translator().event("stream", {"name": "stderr", "text": "t"}, "2026-01-01T00:00:00Z")
    assert event == {"type": "stderr", "text": "t", "timestamp": "2026-01-01T00:00:00Z"}


def test_the_last_line_is_literal() -> None:
    """Clients compare the text of the terminator, not only its meaning."""
    assert events.END == b'{"type": "end_of_execution"}\n'
    assert json.loads(events.KEEPALIVE) == {"type": "keepalive"}


@pytest.mark.parametrize("separator", ["\n", "\r", "\x0b", "\x1c", "\x85", "\u2028", "\u2029"])
def test_no_character_of_a_text_breaks_the_line(separator: str) -> None:
    """Clients that split lines as Unicode does still find one JSON object a line, with the text unchanged."""
    text = f"a{separator}b"
    line = events.line({"type": "stdout", "text": text}).decode()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["text"] == text
