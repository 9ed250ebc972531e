"""Messages: msgspec Structs that carry their own protobuf field numbers.

In memory a message looks like its proto3 JSON form: names of enum values and RFC 3339 timestamps and 64-bit integers
are strings, bytes are bytes, absent optionals are None. So encoding to JSON, the form every SDK uses, is one call
into msgspec; ``connect.wire`` transcodes the same structs to and from protobuf's binary form with the table in
``wire``.

::

    class Size(Message):
        cols: int = 0
        wire: ClassVar[Wire] = fields(cols=(1, Kind.UINT32))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

import msgspec


class Kind(Enum):
    """How a field travels in binary; ``MESSAGE`` and ``ENUM`` need the field's ``type``."""

    STRING = auto()
    BYTES = auto()
    BOOL = auto()
    UINT32 = auto()
    SINT32 = auto()  # zigzag
    INT64 = auto()  # a decimal string in memory
    ENUM = auto()  # its value's name in memory
    MESSAGE = auto()
    STRING_MAP = auto()
    TIMESTAMP = auto()  # RFC 3339 in memory


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message."""

    name: str
    number: int
    kind: Kind
    message: type[Message] | None = None
    enum: Mapping[str, int] | None = None
    repeated: bool = False
    json_name: str = ""
    optional: bool = False
    """Has presence: a present zero value is not the same as an absent one."""


@dataclass(frozen=True, slots=True)
class Wire:
    """The fields of a message by number, by JSON name (both spellings) and in order."""

    ordered: tuple[Field, ...]
    by_number: Mapping[int, Field]
    by_name: Mapping[str, Field]


def camel(name: str) -> str:
    """``include_entry`` -> ``includeEntry``."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def fields(**specs: tuple[object, ...]) -> Wire:
    """The table of a message; each spec is ``(number, what, *flags)``.

    ``what`` is a ``Kind``, a ``Message`` class or a mapping of enum names to numbers; flags are ``"repeated"`` and
    ``"optional"``.
    """
    ordered = tuple(_field(name, spec) for name, spec in specs.items())
    by_name = {f.name: f for f in ordered} | {f.json_name: f for f in ordered}
    return Wire(ordered, {f.number: f for f in ordered}, by_name)


def _field(name: str, spec: tuple[object, ...]) -> Field:
    number, what, *flags = spec
    assert isinstance(number, int)
    repeated, optional = "repeated" in flags, "optional" in flags
    if isinstance(what, Kind):
        return Field(name, number, what, None, None, repeated, camel(name), optional)
    if isinstance(what, type) and issubclass(what, Message):
        return Field(name, number, Kind.MESSAGE, what, None, repeated, camel(name), True)
    assert isinstance(what, Mapping)
    return Field(name, number, Kind.ENUM, None, what, repeated, camel(name), optional)


class Message(msgspec.Struct, rename="camel", omit_defaults=True, gc=False):
    """Base of every message; subclasses add ``wire: ClassVar[Wire]``."""


def wire_of(message: type[Message]) -> Wire:
    """The field table of a message class."""
    table: Wire = message.wire  # type: ignore[attr-defined]
    return table
