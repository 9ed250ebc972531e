"""Protobuf's binary form, driven by the field tables of ``connect.message``.

Only what the envd messages use: varint, zigzag and length-delimited fields. Unknown fields are skipped, a repeated
scalar wins by its last occurrence, a message that occurs twice is merged field by field as the specification asks.
Source: protobuf's encoding guide (wire types 0, 1, 2, 5).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from appliance.runtime.connect.errors import invalid
from appliance.runtime.connect.message import Field, Kind, Message, wire_of

M = TypeVar("M", bound=Message)
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_VARINT_KINDS = frozenset({Kind.BOOL, Kind.UINT32, Kind.SINT32, Kind.INT64, Kind.ENUM})


def encode(message: Message) -> bytes:
    """``message`` in binary; default values are left out, present optionals are kept."""
    out = bytearray()
    for field in wire_of(type(message)).ordered:
        value = getattr(message, field.name)
        if value is None or (not field.optional and not value):
            continue
        for each in value if field.repeated else (value,):
            _put(out, field, each)
    return bytes(out)


def _put(out: bytearray, field: Field, value: Any) -> None:
    kind = field.kind
    if kind in _VARINT_KINDS:
        number = _to_number(field, value)
        if number or field.optional:
            _varint(out, field.number << 3)
            _varint(out, number)
    elif kind is Kind.STRING_MAP:
        for key, text in value.items():
            entry = bytearray()
            _bytes(entry, 1, key.encode("utf-8", "replace"))
            _bytes(entry, 2, text.encode("utf-8", "replace"))
            _bytes(out, field.number, entry)
    else:
        _bytes(out, field.number, _to_bytes(kind, value))


def _to_number(field: Field, value: Any) -> int:
    if field.kind is Kind.SINT32:
        return int(value) * 2 if value >= 0 else -int(value) * 2 - 1
    if field.kind is Kind.ENUM:
        assert field.enum is not None
        return (field.enum[value] if value in field.enum else int(value)) & 0xFFFFFFFFFFFFFFFF
    return int(value) & 0xFFFFFFFFFFFFFFFF


def _to_bytes(kind: Kind, value: Any) -> bytes:
    if kind is Kind.MESSAGE:
        return encode(value)
    if kind is Kind.TIMESTAMP:
        return _timestamp(value)
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


def _timestamp(text: str) -> bytes:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    seconds = (datetime.fromisoformat(whole).replace(tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
    nanos = int(fraction.ljust(9, "0")[:9]) if fraction else 0
    out = bytearray()
    for number, value in ((1, seconds), (2, nanos)):
        if value:
            _varint(out, number << 3)
            _varint(out, value & 0xFFFFFFFFFFFFFFFF)
    return bytes(out)


def _bytes(out: bytearray, number: int, data: bytes | bytearray) -> None:
    _varint(out, number << 3 | _LENGTH)
    _varint(out, len(data))
    out += data


def _varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def decode(data: bytes, message: type[M]) -> M:
    """Binary to ``message``. Raises ``ConnectError`` invalid_argument on malformed bytes."""
    try:
        return _built(message, _decode(memoryview(data), message, {}))
    except (IndexError, ValueError) as error:
        raise invalid(f"the request is not a valid protobuf message: {error}") from None


def _decode(data: memoryview, message: type[Message], values: dict[str, Any]) -> dict[str, Any]:
    """Add the fields in ``data`` to ``values``; messages inside stay dictionaries, so that later parts merge."""
    by_number = wire_of(message).by_number
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        raw, at = _read_raw(data, at, key & 7)
        field = by_number.get(key >> 3)
        if field is not None:
            _collect(values, field, raw)
    return values


def _collect(values: dict[str, Any], field: Field, raw: int | memoryview) -> None:
    if isinstance(raw, int) != (field.kind in _VARINT_KINDS):
        raise ValueError(f"field {field.name} has the wrong wire type")
    if field.kind is Kind.STRING_MAP:
        assert isinstance(raw, memoryview)
        values.setdefault(field.name, {}).update([_map_entry(raw)])
        return
    if field.kind is Kind.MESSAGE and not field.repeated:
        assert field.message is not None and isinstance(raw, memoryview)
        values[field.name] = _decode(raw, field.message, values.get(field.name, {}))
        return
    value = _from_raw(field, raw)
    if field.repeated:
        values.setdefault(field.name, []).append(value)
    else:
        values[field.name] = value


def _built(message: type[M], values: dict[str, Any]) -> M:
    """The message that ``values`` describe."""
    for field in wire_of(message).ordered:
        value = values.get(field.name)
        if isinstance(value, dict) and field.kind is Kind.MESSAGE:
            assert field.message is not None
            values[field.name] = _built(field.message, value)
    return message(**values)


def _from_raw(field: Field, raw: int | memoryview) -> Any:
    kind = field.kind
    if isinstance(raw, int):
        return _from_number(field, raw)
    if kind is Kind.MESSAGE:
        assert field.message is not None
        return _built(field.message, _decode(raw, field.message, {}))
    if kind is Kind.BYTES:
        return bytes(raw)
    if kind is Kind.TIMESTAMP:
        return _read_timestamp(raw)
    return bytes(raw).decode("utf-8")


def _read_timestamp(data: memoryview) -> str:
    found = {1: 0, 2: 0}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        raw, at = _read_raw(data, at, key & 7)
        if isinstance(raw, int):
            found[key >> 3] = raw - (1 << 64) if raw >> 63 else raw
    if not 0 <= found[2] < 1_000_000_000:
        raise ValueError("a timestamp's nanoseconds must be from 0 to 999999999")
    try:
        whole = (_EPOCH + timedelta(seconds=found[1])).replace(tzinfo=None).isoformat()
    except OverflowError:
        raise ValueError("a timestamp outside the years 1 to 9999") from None
    return f"{whole}.{found[2]:09d}Z" if found[2] else f"{whole}Z"


def _from_number(field: Field, raw: int) -> Any:
    if field.kind is Kind.BOOL:
        return bool(raw)
    if field.kind is Kind.SINT32:
        raw &= 0xFFFFFFFF
        return (raw >> 1) ^ -(raw & 1)
    if field.kind is Kind.INT64:
        return str(raw - (1 << 64) if raw >> 63 else raw)
    if field.kind is Kind.ENUM:
        assert field.enum is not None
        number = (raw & 0xFFFFFFFF ^ 0x80000000) - 0x80000000  # an enum is an int32
        return next((name for name, known in field.enum.items() if known == number), str(number))
    return raw & 0xFFFFFFFF


def _map_entry(data: memoryview) -> tuple[str, str]:
    found = {1: "", 2: ""}
    at = 0
    while at < len(data):
        key, at = _read_varint(data, at)
        raw, at = _read_raw(data, at, key & 7)
        if isinstance(raw, memoryview):
            found[key >> 3] = bytes(raw).decode("utf-8")
    return found[1], found[2]


def _read_raw(data: memoryview, at: int, wire_type: int) -> tuple[int | memoryview, int]:
    if wire_type == _VARINT:
        return _read_varint(data, at)
    if wire_type == _LENGTH:
        size, at = _read_varint(data, at)
    elif wire_type in (_FIXED64, _FIXED32):
        size = 8 if wire_type == _FIXED64 else 4
    else:
        raise ValueError(f"unknown wire type {wire_type}")
    if at + size > len(data):
        raise ValueError("a field runs past the end")
    return data[at : at + size], at + size


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint is longer than ten bytes")
