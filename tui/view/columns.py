"""What a table of rows is made of: its columns, and how it is filtered and sorted. No widget, no world."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from appliance.kube import selectors
from tui.model.change import Key
from tui.view.cells import Cell, Glyphs


class Row(Protocol):
    """Anything with a key and words to search in."""

    @property
    def key(self) -> Key:
        """Identity of the row across refreshes."""

    @property
    def text(self) -> str:
        """Lower-case words."""


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Ink:
    """What a cell may depend on besides its row: the present, the glyphs, and the width it has."""

    now: float
    glyphs: Glyphs
    width: int = 0


@dataclass(frozen=True)
class Column(Generic[R]):
    """One column. ``rank``: 0 is always shown, higher ranks give way first on narrow terminals."""

    name: str
    title: str
    width: int
    cell: Callable[[R, Ink], Cell]
    sort: Callable[[R], Any]
    letter: str = ""
    """Shift+letter sorts by it."""
    right: bool = False
    rank: int = 1
    grow: bool = False
    """Takes the width that is left over."""
    most: int = 1000
    """The widest it grows."""
    descending: bool = False
    """The interesting end first, on the first press."""


def fit(columns: Sequence[Column[Any]], width: int) -> list[tuple[Column[Any], int]]:
    """The columns that fit in ``width`` characters with their widths, in order; the lowest ranks stay.

    One space stands between columns. Left-over width goes to the growing columns, evenly.
    """
    chosen: list[Column[Any]] = []
    left = width
    for _, column in sorted(enumerate(columns), key=lambda pair: (pair[1].rank, pair[0])):
        if left >= column.width or not chosen:
            chosen.append(column)
            left -= column.width + 1
    ordered = [column for column in columns if column in chosen]
    return [
        (column, min(width, column.width + extra))
        for column, extra in zip(ordered, _spread(ordered, max(0, left + 1)), strict=True)
    ]


def _spread(columns: Sequence[Column[Any]], spare: int) -> list[int]:
    """How much each column grows: evenly, the surplus of those that are wide enough going to the others."""
    extra = [0] * len(columns)
    open_ones = [place for place, column in enumerate(columns) if column.grow]
    while spare > 0 and open_ones:
        share, rest = divmod(spare, len(open_ones))
        for index, place in enumerate(open_ones):
            room = columns[place].most - columns[place].width - extra[place]
            more = min(room, share + (1 if index < rest else 0))
            extra[place] += more
            spare -= more
        open_ones = [place for place in open_ones if columns[place].width + extra[place] < columns[place].most]
    return extra


@dataclass(frozen=True)
class Filter:
    """A parsed filter: ``text`` or ``/regex``-able words, ``!`` inverse, ``-l`` labels. See ``parse_filter``."""

    source: str = ""
    pattern: re.Pattern[str] | None = None
    inverse: bool = False
    labels: selectors.Matches | None = None
    word: str = ""
    """Set when the filter is a plain word, which is looked for some times faster than a pattern."""

    def __call__(self, row: Any) -> bool:
        """Whether the row stays."""
        if self.labels is not None:
            return self.labels(labels_of(row))
        if self.pattern is None:
            return True
        return (self.pattern.search(row.text) is not None) is not self.inverse

    def select(self, rows: Sequence[R]) -> list[R]:
        """The rows that stay."""
        if not self.source:
            return list(rows)
        if self.word:
            word, wanted = self.word, not self.inverse
            return [row for row in rows if (word in row.text) is wanted]
        return [row for row in rows if self(row)]


def parse_filter(source: str) -> Filter:
    """``word`` or a regular expression, anywhere and in any case; ``!…`` keeps the others; ``-l a=b`` selects labels.

    What is no regular expression is taken literally. Raises ValueError for a label selector that is none.
    """
    words = source.strip()
    if words.startswith("-l"):
        return Filter(words, labels=selectors.parse(words[2:].strip()))
    inverse = words.startswith("!")
    body = words[1:].strip() if inverse else words
    if not body:
        return Filter(words)
    try:
        pattern = re.compile(body, re.IGNORECASE)
    except re.error:
        pattern = re.compile(re.escape(body), re.IGNORECASE)
    return Filter(words, pattern=pattern, inverse=inverse, word=body.lower() if _PLAIN.fullmatch(body) else "")


_PLAIN = re.compile(r"[\w \-/,:]+")
"""Words without a character that means something in an expression."""


def labels_of(row: Any) -> Mapping[str, str]:
    """Labels of the object behind a row; rows without one have none."""
    source = getattr(row, "source", None)
    return source.meta.labels if source is not None else {}


@dataclass(frozen=True)
class Order:
    """Sort order: by column name; ``reverse`` turns it."""

    column: str = ""
    reverse: bool = False

    def toggled(self, column: Column[Any]) -> Order:
        """The order after asking for that column: its natural direction first, then the other."""
        if self.column == column.name:
            return Order(column.name, not self.reverse)
        return Order(column.name, column.descending)


def arrange(rows: Sequence[R], keep: Filter, order: Order, columns: Sequence[Column[R]]) -> list[R]:
    """The rows that pass, in order; ties, and rows without a value, are in the order of their keys."""
    kept = keep.select(rows)
    column = next((one for one in columns if one.name == order.column), None)
    if column is None:
        return kept
    kept.sort(key=_key)  # nearly free: the world keeps its long list in this order
    values = list(map(column.sort, kept))
    places: Sequence[int] = range(len(kept))
    if None in values:
        places = [place for place in places if values[place] is not None]
    arranged = [kept[place] for place in sorted(places, key=values.__getitem__, reverse=order.reverse)]
    if len(arranged) < len(kept):
        arranged += [row for row, value in zip(kept, values, strict=True) if value is None]
    return arranged


_key = attrgetter("key")
