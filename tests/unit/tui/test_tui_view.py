"""Rows into cells: formats, fitting columns, filters and orders."""

import re
from dataclasses import dataclass, field

import pytest
from decks import T0, busy_changes, sandbox, world
from rich.cells import cell_len

from tui import main
from tui.act.table import ACTIONS, BY_NAME, bindings, named
from tui.configuration import parse
from tui.model.change import Key
from tui.view.cells import ASCII, PLAIN, UNICODE, Glyphs, brief, countdown, per_second, span, spark, stacked, text
from tui.view.columns import Column, Ink, Order, arrange, fit, parse_filter
from tui.view.tables import TABLES
from tui.view.usage import Reading, cores, usage_lines
from tui.view.usage import parse as parse_use


@dataclass(frozen=True)
class Item:
    """A row."""

    key: Key
    text: str
    value: int | None = None
    source: object = field(default=None)


COLUMNS = (
    Column("name", "NAME", 10, lambda r, i: text(r.key[1]), lambda r: r.key[1], rank=0, grow=True),
    Column("value", "VALUE", 6, lambda r, i: text(r.value), lambda r: r.value, rank=1, descending=True),
    Column("extra", "EXTRA", 8, lambda r, i: text(""), lambda r: 0, rank=2),
)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (3599, "59m"), (3600, "1h00m"), (36000, "10h"), (90000, "1d"), (-4, "0s")],
)
def test_ages_are_short(seconds: float, expected: str) -> None:
    """An age takes at most five characters and is never negative."""
    assert span(seconds) == expected


@pytest.mark.parametrize(
    ("left", "expected"), [(None, ""), (-1, "due"), (0.2, "0:01"), (59.5, "1:00"), (599, "9:59"), (7200, "2h00m")]
)
def test_timers_count_down(left: float | None, expected: str) -> None:
    """A timer never shows zero before it is due."""
    assert countdown(None if left is None else T0 + left, T0) == expected


def test_latencies_and_rates() -> None:
    """Milliseconds below a second, a dash for nothing; rates below a tenth are told per minute."""
    assert [brief(one) for one in (None, 0.0041, 0.25, 1.5, 90)] == ["-", "4.1ms", "250ms", "1.50s", "90s"]
    assert [per_second(one) for one in (0, 0.05, 0.5, 12)] == ["0", "3.0/m", "0.5/s", "12/s"]


def test_graphs_have_the_width_they_were_given() -> None:
    """Sparklines and stacked bars fill their width exactly, in both alphabets, and hide no share."""
    for glyphs in (UNICODE, ASCII):
        assert len(spark([1, 2, 3], 8, glyphs)) == 8
        bar = stacked([(0.001, "warn"), (9.0, "good"), (0.0, "bad")], 20, glyphs.full * 3)
        assert sum(len(words) for words, _ in bar) == 20
        assert [tone for _, tone in bar] == ["warn", "good"]


@pytest.mark.parametrize(("width", "names"), [(8, ["name"]), (17, ["name", "value"]), (40, ["name", "value", "extra"])])
def test_columns_give_way_by_rank(width: int, names: list[str]) -> None:
    """On a narrow terminal the columns of the lowest rank stay, and the widths never exceed what there is."""
    fitted = fit(COLUMNS, width)
    assert [column.name for column, _ in fitted] == names
    assert sum(wide for _, wide in fitted) + len(fitted) - 1 <= width


@pytest.mark.parametrize("table", list(TABLES))
@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_every_table_fits_every_width(table: str, width: int) -> None:
    """All three tables show their first column and fit, from a phone to a wall."""
    fitted = fit(TABLES[table].columns, width)
    assert fitted[0][0].name == "name"
    assert sum(wide + 1 for _, wide in fitted) - 1 <= width


@pytest.mark.parametrize("table", list(TABLES))
def test_every_column_of_every_table_says_something_about_every_row(table: str) -> None:
    """No row of a busy world breaks a cell or a sort key, in either alphabet."""
    made = world(busy_changes())
    for row in TABLES[table].rows(made, T0):
        for column in TABLES[table].columns:
            for glyphs in (UNICODE, ASCII):
                cell = column.cell(row, Ink(T0, glyphs, column.width))
                assert all(cell_len(words) >= 0 for words, _ in cell)
                if glyphs is ASCII and column.name in ("state", "bar", "depth", "dry"):
                    assert all(words.isascii() for words, _ in cell)


def test_sort_letters_are_unique_and_free() -> None:
    """No two columns of a table share a letter, and none takes a key that is bound."""
    taken = {key for action in ACTIONS for key in action.keys.split(",") if len(key) == 1 and key.isupper()}
    for table in TABLES.values():
        letters = [column.letter for column in table.columns if column.letter]
        assert len(letters) == len(set(letters))
        assert not taken & set(letters)


ROWS = [Item(("a", "one"), "a one red", 3), Item(("b", "two"), "b two blue", None), Item(("a", "six"), "a six red", 9)]


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("", ["one", "two", "six"]),
        ("RED", ["one", "six"]),
        ("!red", ["two"]),
        ("o.e", ["one"]),
        ("t(", []),
        (r"^\D+$", ["one", "two", "six"]),
        ("ONE|SIX", ["one", "six"]),
        ("b two", ["two"]),
        ("!", ["one", "two", "six"]),
    ],
)
def test_filters(source: str, names: list[str]) -> None:
    """Words and regular expressions in any case, inverted by !, and what is no expression is taken literally."""
    assert [row.key[1] for row in arrange(ROWS, parse_filter(source), Order(), COLUMNS)] == names


def test_label_filters() -> None:
    """-l selects by the labels of the objects; a selector that is none is refused with the reason."""
    made = world(busy_changes())
    rows = list(made.sandboxes.values())
    kept = arrange(rows, parse_filter("-l agents.kruise.io/sandbox-pool in (dry-pool,broken)"), Order(), ())
    assert {row.template for row in kept} == {"dry-pool", "broken"}
    with pytest.raises(ValueError, match="label selector"):
        parse_filter("-l a b c")


def test_sorting_keeps_rows_without_a_value_last_in_both_directions() -> None:
    """Asking twice turns the order of the values, not the place of the missing ones."""
    order = Order().toggled(COLUMNS[1])
    assert [row.value for row in arrange(ROWS, parse_filter(""), order, COLUMNS)] == [9, 3, None]
    order = order.toggled(COLUMNS[1])
    assert [row.value for row in arrange(ROWS, parse_filter(""), order, COLUMNS)] == [3, 9, None]


def test_actions_are_named_once_and_found_by_every_name() -> None:
    """No name or alias means two things; a beginning that fits one action is enough."""
    words = [word for action in ACTIONS for word in (action.name, *action.aliases)]
    assert len(words) - len(set(words)) == 0
    assert named("ns") is BY_NAME["namespace"]
    assert named("sca") is BY_NAME["scale"]
    assert named("s") is None
    assert named("nonsense") is None


@pytest.mark.parametrize("screen", ["overview", "pools", "sandboxes", "claims", "sandbox", "page", "logs"])
def test_no_key_of_a_screen_means_two_things(screen: str) -> None:
    """Each key is bound once on each screen."""
    keys = [key for one in bindings(screen) for key in one.key.split(",")]
    assert len(keys) == len(set(keys)), sorted(key for key in keys if keys.count(key) > 1)


def test_configuration_is_checked_word_by_word() -> None:
    """Unknown sections, tables, columns and actions are refused with the known ones."""
    made = parse({"theme": "nord", "columns": {"pools": ["name", "dry"]}, "keys": {"kill": "ctrl+x"}}, "f")
    assert made.columns == {"pools": ["name", "dry"]}
    for wrong in ({"thema": 1}, {"columns": {"pool": []}}, {"columns": {"pools": ["x"]}}, {"keys": {"kil": "x"}}):
        with pytest.raises(ValueError, match="unknown"):
            parse(wrong, "f")


def test_a_row_is_found_by_what_people_type() -> None:
    """Name, id, owner, state and reason of a sandbox are all searched."""
    made = world([])
    from decks import put

    made.apply(put(T0, sandbox("py-1", claimed=T0 - 5)))
    (row,) = made.sandboxes.values()
    for word in ("py-1", row.id, "key-1", "running", "10.0.0"):
        assert parse_filter(word)(row)


def test_a_share_too_small_to_see_is_left_out_where_bars_tell_shares() -> None:
    """Ten microseconds of twenty milliseconds get no character of a claim's bar, half a character's worth gets one."""
    shares = [(0.00001, "warn"), (0.0006, "idle"), (0.0195, "good")]
    assert "".join(words for words, _ in stacked(shares, 20, "qpw", least=0.5)) == "p" + "w" * 19


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"LANG": "en_US.UTF-8"}, UNICODE),
        ({}, UNICODE),
        ({"LANG": "C.UTF-8", "NO_COLOR": "1"}, PLAIN),
        ({"LANG": "C"}, ASCII),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, ASCII),  # what Python makes of LANG=C
        ({"LANG": "en_US.UTF-8", "LC_ALL": "POSIX"}, ASCII),
        ({"LANG": "de_DE.ISO-8859-1"}, ASCII),
        ({"LANG": "en_US.UTF-8", "TERM": "linux"}, ASCII),
        ({"LANG": "C", "TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}, UNICODE),
    ],
)
def test_glyphs_follow_the_terminal(env: dict[str, str], expected: Glyphs) -> None:
    """ASCII where the operator's locale says so, Unicode elsewhere, bars of characters without colours."""
    assert main.glyphs(env, "utf-8") is expected


def test_an_encoding_without_unicode_gets_ascii() -> None:
    """Whatever the locale says, what the stream cannot encode is not drawn."""
    assert main.glyphs({"LANG": "en_US.UTF-8"}, "ascii") is ASCII


def test_use_is_read_from_both_versions_of_control_groups() -> None:
    """Versions 1 and 2 give the same reading; what is not there is None, and no output is no reading."""
    two = "cpu.stat usage_usec 1500000\ncpu.max 50000 100000\nmemory.current 1024\nmemory.max max\n"
    one = (
        "cpuacct/cpuacct.usage 1500000000\ncpu/cpu.cfs_quota_us 50000\ncpu/cpu.cfs_period_us 100000\n"
        "memory/memory.usage_in_bytes 1024\nmemory/memory.limit_in_bytes 9223372036854771712\n"
    )
    rest = "uptime 12.5 1\nprocesses 3\ndisk Filesystem 1024-blocks Used\ndisk overlay 100 50 50 50% /\n"
    wanted = Reading(12.5, 1.5, 0.5, 1024.0, None, 51200.0, 102400.0, 3)
    assert parse_use(two + rest) == parse_use(one + rest) == wanted
    assert parse_use("uptime 1 1\n") == Reading(1.0, None, None, None, None, None, None, 0)
    assert parse_use("sh: not found") is None


def test_processor_use_is_the_difference_of_readings() -> None:
    """Half a second of processor in one second is half a core; a first reading alone says that it is measuring."""
    first = Reading(10.0, 1.0, 2.0, 2**20, 2**21, None, None, 3)
    second = Reading(11.0, 1.5, 2.0, 2**20, 2**21, None, None, 3)
    assert cores([first, second]) == [0.5]
    words = lambda lines: "\n".join("".join(piece for piece, _ in line) for line in lines)  # noqa: E731
    assert "measuring of 2 cores" in words(usage_lines([first], UNICODE))
    shown = words(usage_lines([first, second], ASCII))
    assert "0.50 of 2 cores" in shown and "1.0 MiB of 2.0 MiB" in shown and shown.isascii()


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"theme": 3}, "theme: expected a name in quotes, got 3"),
        ({"columns": "x"}, "columns: expected a table"),
        ({"columns": {"pools": "name"}}, "columns.pools: expected a list of column names"),
        ({"columns": {"pools": []}}, "columns.pools: expected a list of column names"),
        ({"keys": {"kill": 7}}, "keys.kill: expected keys such as"),
        ({"keys": {"kill": "press x"}}, "keys.kill: expected keys such as"),
        ({"columns": {"pools": ["name", "name"]}}, "columns.pools: 'name' is named twice"),
        ({"keys": {"kill": "p"}}, "keys.kill: p is pause already"),
        ({"keys": {"kill": "ctrl+bananas"}}, "keys.kill: expected keys such as"),
    ],
)
def test_a_wrong_configuration_names_its_field(wrong: dict[str, object], expected: str) -> None:
    """Whatever is wrong, the message has the file, the field, what was found and what was expected."""
    with pytest.raises(ValueError, match=re.escape(f"tui.toml: {expected}")):
        parse(wrong, "tui.toml")


def test_keys_may_change_places() -> None:
    """A key that is freed by the same file can be given to another action; keys of other screens do not clash."""
    made = parse({"keys": {"kill": "p", "pause": "ctrl+d"}}, "f")
    assert made.keys == {"kill": "p", "pause": "ctrl+d"}
    assert parse({"keys": {"scale": "s,f7"}}, "f").keys == {"scale": "s,f7"}


def test_every_key_of_the_table_may_be_written_in_a_configuration() -> None:
    """Whatever the table binds, under the name the terminal library gives it, is a key to the configuration too."""
    for action in ACTIONS:
        if action.keys:
            assert parse({"keys": {action.name: action.keys}}, "f").keys == {action.name: action.keys}
