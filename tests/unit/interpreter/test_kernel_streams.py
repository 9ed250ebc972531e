"""What a cell prints is cut at lines, and never held back by the end of the cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ipykernel.iostream import IOPubThread

from appliance.runtime.interpreter.pykernel.streams import FLUSH_SECONDS, LINE_SECONDS, LineStream


class Thread(IOPubThread):  # type: ignore[misc]
    """The output thread and its loop: whatever is scheduled runs at once, timers when the test lets them."""

    def __init__(self) -> None:
        self.thread, self.io_loop = None, self
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def schedule(self, work: Callable[[], None]) -> None:
        work()

    def call_later(self, delay: float, work: Callable[[], None]) -> None:
        self.timers.append((delay, work))

    def fire(self) -> float:
        delay, work = self.timers.pop(0)
        work()
        return delay


class Session:
    """Keeps the text of what is sent."""

    pid = 0

    def __init__(self) -> None:
        self.sent: list[str] = []

    def msg(self, kind: str, content: dict[str, str], parent: Any) -> str:
        return content["text"]

    def send(self, socket: Any, message: str, ident: bytes) -> None:
        self.sent.append(message)


@pytest.fixture
def world() -> tuple[LineStream, Thread, list[str]]:
    """A stream, its thread, and what it sent."""
    thread, session = Thread(), Session()
    stream = LineStream(session, thread, "stdout", watchfd=False)
    stream.set_parent({"header": {}})
    return stream, thread, session.sent


def test_a_line_written_in_two_pieces_is_one_message(world: tuple[LineStream, Thread, list[str]]) -> None:
    """As print does it, with the timer firing between text and newline."""
    stream, thread, sent = world
    stream.write("a")
    assert thread.fire() == FLUSH_SECONDS
    assert sent == []
    stream.write("\n")
    assert thread.fire() == LINE_SECONDS
    assert sent == ["a\n"]
    assert thread.timers == []


def test_an_unfinished_line_is_sent_all_the_same(world: tuple[LineStream, Thread, list[str]]) -> None:
    """A row of dots appears, a moment later than lines do, and the next piece waits anew."""
    stream, thread, sent = world
    for expected in (["."], [".", "."]):
        stream.write(".")
        thread.fire()
        thread.fire()
        assert sent == expected


def test_a_flush_does_not_wait(world: tuple[LineStream, Thread, list[str]]) -> None:
    """The end of a cell, or the cell itself, has everything out at once; the timer that was set finds nothing."""
    stream, thread, sent = world
    stream.write("no newline")
    stream.flush()
    assert sent == ["no newline"]
    thread.fire()
    assert sent == ["no newline"]


def test_complete_lines_leave_with_the_first_timer(world: tuple[LineStream, Thread, list[str]]) -> None:
    """All that was printed meanwhile in one message."""
    stream, thread, sent = world
    stream.write("a\nb\n")
    thread.fire()
    assert sent == ["a\nb\n"]
