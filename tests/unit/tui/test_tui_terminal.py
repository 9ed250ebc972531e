"""The terminal in the deck: what it shows, what it types, and what a sandbox cannot make it do."""

from __future__ import annotations

import pytest
from rich.style import Style

from tui.terminal.emulator import KEPT, UNFINISHED, Emulator
from tui.terminal.keys import key_event
from tui.terminal.paint import line


class Console:
    """An emulator and what it sent."""

    def __init__(self, columns: int = 20, lines: int = 4) -> None:
        self.sent = b""
        self.emulator = Emulator(columns, lines, self._send)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def feed(self, *data: bytes) -> list[str]:
        """The lines shown after that."""
        for one in data:
            self.emulator.feed(one)
        return ["".join(text for _, text in row).rstrip() for row in self.emulator.rows()]


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        ([b"a\r\nb"], ["a", "b", "", ""]),
        ([b"x" * 25], ["x" * 20, "xxxxx", "", ""]),
        ([b"\x1b[2;3Hz"], ["", "  z", "", ""]),
        ([b"\x1b[3;", b"2Hz"], ["", "", " z", ""]),
        ([b"1\r\n2\r\n3\r\n4\r\n5"], ["2", "3", "4", "5"]),
        ([b"1\r\n2\r\n3\r\n4\x1b[2;3r\x1b[3;1H\n5"], ["1", "3", "5", "4"]),
        ([b"abcdef\x1b[1;3H\x1b[2P"], ["abef", "", "", ""]),
        ([b"abc\x1b[1;2H\x1b[2@"], ["a  bc", "", "", ""]),
        ([b"1\r\n2\r\n3\x1b[2;1H\x1b[L"], ["1", "", "2", "3"]),
        ([b"1\r\n2\r\n3\x1b[1;1H\x1b[M"], ["2", "3", "", ""]),
        ([b"a\tb"], ["a       b", "", "", ""]),
        ([b"-\x1b[9b"], ["-" * 10, "", "", ""]),
        ([b"main\x1b[?1049h\x1b[Hother"], ["other", "", "", ""]),
        ([b"main\x1b[?1049h\x1b[Hother\x1b[?1049l"], ["main", "", "", ""]),
        ([b"\x1b(0lqk\x1b(B!"], ["┌─┐!", "", "", ""]),
        ([b"\xe4\xb8", b"\xad|"], ["中|", "", "", ""]),
        ([b"e\xcc\x81|"], ["e\u0301|", "", "", ""]),
        ([b"\xff\xfe"], ["\ufffd\ufffd", "", "", ""]),
        ([b"abc\x1b[1;1H\x1b[4h+"], ["+abc", "", "", ""]),
        ([b"\x1b[>4;2mplain"], ["plain", "", "", ""]),
        ([b"junk\x1bcnew"], ["new", "", "", ""]),
    ],
)
def test_what_programs_print_is_shown_as_they_mean_it(printed: list[bytes], shown: list[str]) -> None:
    """Cursor, wrapping, regions, editing, tabs, the other screen, line drawing, wide and combined characters."""
    assert Console().feed(*printed) == shown


@pytest.mark.parametrize(
    "printed",
    [
        b"\x1b]0;title\x07", b"\x1b]2;title\x1b\\\x1b[21t", b"\x1b[22t\x1b[23t", b"\x1b]52;c;aGVsbG8=\x07",
        b"\x1b]52;c;?\x07", b"\x1b]8;;http://x\x07", b"\x1b]9;note\x07", b"\x1b]7;file:///x\x07", b"\x1b]10;?\x07",
        b"\x1b]4;1;?\x07", b"\x1b]P0ff0000", b"\x1b[8;99;999t", b"\x1b[14t", b"\x1b[?40h\x1b[?3h", b"\x1b[132$|",
        b"\x1b[5i\x1b[4i", b"\x1bP0;0;0!zabc\x1b\\\x1b[0*z", b"\x1bP0;1|17/6d\x1b\\", b"\x05", b"\x1b_app\x1b\\",
        b"\x1b^private\x1b\\", b"\x1bX start\x1b\\", b"\x1bP+q544e", b"\x1b[1'z",
    ],
    ids=repr,
)  # fmt: skip
def test_what_would_reach_past_the_screen_does_nothing(printed: bytes) -> None:
    """Titles, clipboard, links, colours, sizes, printers and programmed keys: no answer, no cell, no other size."""
    console = Console()
    console.feed(printed)
    console.emulator.board.input_key_event(key_event("f6", None))
    assert console.sent == b"\x1b[17~"
    assert console.feed(b"\x18\x1b[1;1Hok")[0] == "ok"
    assert (console.emulator.board.width, console.emulator.board.height) == (20, 4)


@pytest.mark.parametrize(
    ("asked", "answer"),
    [(b"\x1b[5n", b"\x1b[0n"), (b"ab\x1b[6n", b"\x1b[1;3R"), (b"\x1b[c", b"\x1b[?62;"), (b"\x1b[>c", b"\x1b[>1;")],
)
def test_plain_questions_are_answered(asked: bytes, answer: bytes) -> None:
    """Programs ask where the cursor is and what terminal this is."""
    console = Console()
    console.feed(asked)
    assert console.sent.startswith(answer)


def test_what_a_sandbox_prints_takes_bounded_memory() -> None:
    """A sequence that never ends is dropped; lines that scrolled off are kept up to a number of cells."""
    console = Console()
    console.feed(b"\x1b]0;", *([b"x" * 4096] * 50))
    assert len(console.emulator.board.parser.buffer) <= UNFINISHED
    console.feed(*([b"a line of some length\r\n" * 1000] * 30))
    assert 0 < console.emulator.scrollback.cells <= KEPT
    console.emulator.scroll_view(-3)
    assert console.emulator.view_offset() == 3
    assert console.emulator.cursor is None
    console.emulator.scroll_to_bottom()
    assert console.emulator.cursor is not None


@pytest.mark.parametrize(
    ("key", "character", "typed"),
    [
        ("a", "a", b"a"), ("A", "A", b"A"), ("udiaeresis", "ü", "ü".encode()), ("space", " ", b" "),
        ("plus", "+", b"+"), ("colon", ":", b":"), ("enter", "\r", b"\r"), ("tab", "\t", b"\t"),
        ("shift+tab", None, b"\x1b[Z"), ("escape", "\x1b", b"\x1b"), ("backspace", "\x7f", b"\x7f"),
        ("ctrl+c", "\x03", b"\x03"), ("ctrl+d", "\x04", b"\x04"), ("ctrl+q", "\x11", b"\x11"),
        ("ctrl+at", "\x00", b"\x00"), ("ctrl+@", "\x00", b"\x00"), ("ctrl+space", None, b"\x00"),
        ("ctrl+backslash", "\x1c", b"\x1c"), ("alt+b", None, b"\x1bb"), ("up", None, b"\x1b[A"),
        ("ctrl+left", None, b"\x1b[1;5D"), ("home", None, b"\x1b[H"), ("delete", None, b"\x1b[3~"),
        ("pageup", None, b"\x1b[5~"), ("f1", None, b"\x1bOP"), ("f12", None, b"\x1b[24~"), ("unknown", None, b""),
    ],
)  # fmt: skip
def test_keys_are_typed_as_an_xterm_types_them(key: str, character: str | None, typed: bytes) -> None:
    """Text, control characters, named keys with and without modifiers."""
    console = Console()
    event = key_event(key, character)
    if event is not None:
        console.emulator.board.input_key_event(event)
    assert console.sent == typed


def test_a_program_chooses_how_arrows_and_pastes_are_told() -> None:
    """Application cursor keys and bracketed paste; nothing pasted can end its own brackets."""
    console = Console()
    console.feed(b"\x1b[?1h\x1b[?2004h")
    console.emulator.board.input_key_event(key_event("up", None))
    console.emulator.board.input_paste("a\nb\x1b[201~c")
    assert console.sent == b"\x1bOA\x1b[200~a\rb [201~c\x1b[201~"


def test_colours_and_attributes() -> None:
    """The 16, the 256 and all colours, attributes, and reset."""
    console = Console()
    console.feed(b"\x1b[1;31ma\x1b[0;38;5;208mb\x1b[38;2;1;2;3;48:2::4:5:6mc\x1b[0;7md\x1b[me")
    strip = line(console.emulator.rows()[0], 20, Style())
    looks = [(piece.text, piece.style) for piece in strip if piece.style is not None][:5]
    assert [text for text, _ in looks][:4] == ["a", "b", "c", "d"]
    assert looks[0][1].bold and looks[0][1].color is not None and looks[0][1].color.number == 1
    assert looks[1][1].color is not None and looks[1][1].color.number == 208
    colour, ground = looks[2][1].color, looks[2][1].bgcolor
    assert colour is not None and colour.triplet == (1, 2, 3)
    assert ground is not None and ground.triplet == (4, 5, 6)
    assert looks[3][1].reverse and not looks[4][1].reverse


@pytest.mark.parametrize(
    ("printed", "plain", "shown"),
    [
        ("中a", False, "中a"), ("中a", True, "??a"), ("─", True, "?"), ("\u202ex", False, "x"), ("\u0080", False, ""),
        ("e\u0301", False, "e\u0301"),
    ],
)  # fmt: skip
def test_a_cell_takes_its_columns_and_steers_nothing(printed: str, plain: bool, shown: str) -> None:
    """What is no printable character, or would be of another width here, is a mark."""
    console = Console()
    console.feed(printed.encode())
    strip = line(console.emulator.rows()[0], 20, Style(), plain=plain)
    assert strip.text.rstrip() == shown
    assert strip.cell_length == 20 == sum(piece.cell_length for piece in strip)
