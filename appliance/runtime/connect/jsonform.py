"""proto3 JSON: decoding with every freedom the mapping grants, encoding straight through msgspec.

Accepted on the way in: lowerCamelCase and snake_case names, numbers as strings, enum values by name or number, base64
in the standard or the URL alphabet with or without padding, null for "absent", unknown fields (ignored). Errors name
the field.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from appliance.runtime.connect.errors import ConnectError, invalid
from appliance.runtime.connect.message import Field, Kind, Message, wire_of
from appliance.runtime.text import encode_json

M = TypeVar("M", bound=Message)
_decode = msgspec.json.Decoder().decode
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T([0-9:]{8})(?:\.([0-9]{1,9}))?(Z|[+-][0-9]{2}:[0-9]{2})")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")


def encode(message: Message) -> bytes:
    """``message`` as JSON."""
    return encode_json(message)


def decode(data: bytes, message: type[M]) -> M:
    """JSON to ``message``. Raises ``ConnectError`` invalid_argument. An empty body is the empty message."""
    try:
        value = _decode(data) if data else {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"the request body is not JSON: {error}") from None
    except RecursionError:
        raise invalid("the request body is JSON nested too deeply") from None
    return _build(message, value, "")


def _build(message: type[M], value: Any, path: str) -> M:
    if not isinstance(value, dict):
        raise invalid(f"{path or 'the request'}: expected an object, got {_named(value)}")
    by_name = wire_of(message).by_name
    known: dict[str, Any] = {}
    for key, item in value.items():
        field = by_name.get(key)
        if field is not None and item is not None:
            known[field.name] = _value(field, item, f"{path}.{key}" if path else key)
    return message(**known)


def _value(field: Field, item: Any, path: str) -> Any:
    if field.repeated:
        if not isinstance(item, list):
            raise invalid(f"{path}: expected an array, got {_named(item)}")
        return [_single(field, each, f"{path}[{index}]") for index, each in enumerate(item)]
    return _single(field, item, path)


def _single(field: Field, item: Any, path: str) -> Any:
    kind = field.kind
    if kind is Kind.MESSAGE:
        assert field.message is not None
        return _build(field.message, item, path)
    if kind is Kind.STRING:
        return _expect(item, str, path, "a string")
    if kind is Kind.TIMESTAMP:
        return _timestamp(item, path)
    if kind is Kind.BOOL:
        return _expect(item, bool, path, "true or false")
    if kind is Kind.BYTES:
        return _bytes(item, path)
    if kind is Kind.ENUM:
        return _enum(field, item, path)
    if kind is Kind.STRING_MAP:
        return _string_map(item, path)
    return _integer(kind, item, path)


def _expect(item: Any, kind: type, path: str, wanted: str) -> Any:
    if not isinstance(item, kind):
        raise _wrong(path, wanted, item)
    return item


def _timestamp(item: Any, path: str) -> str:
    """RFC 3339, in the one spelling that ``wire`` writes: UTC, nine digits of a second or none."""
    match = _INSTANT.fullmatch(_expect(item, str, path, "an RFC 3339 time"))
    try:
        if match is None:
            raise ValueError
        when = datetime.fromisoformat(f"{match[1]}T{match[2]}{match[4].replace('Z', '+00:00')}").astimezone(UTC)
    except (ValueError, OverflowError):
        raise invalid(f"{path}: expected an RFC 3339 time, got {_shown(item)}") from None
    nanos = (match[3] or "").ljust(9, "0")
    return f"{when.replace(tzinfo=None).isoformat()}{'.' + nanos if nanos.strip('0') else ''}Z"


def _bytes(item: Any, path: str) -> bytes:
    text = str(_expect(item, str, path, "base64 text"))
    try:
        raw = text.encode("ascii").translate(_URL_SAFE)
        return base64.b64decode(raw + b"=" * (-len(raw) % 4), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise invalid(f"{path}: expected base64 text") from None


def _enum(field: Field, item: Any, path: str) -> str:
    assert field.enum is not None
    if isinstance(item, str):
        if item in field.enum:
            return item
        if _INTEGER.fullmatch(item):  # an unknown number, as we write it
            item = int(item)
    if isinstance(item, int) and not isinstance(item, bool):
        for name, number in field.enum.items():
            if number == item:
                return name
        if -(2**31) <= item < 2**31:
            return str(item)  # an unknown number stays visible; proto3 enums are open
    raise invalid(f"{path}: expected one of {', '.join(field.enum)}, got {_shown(item)}")


def _string_map(item: Any, path: str) -> dict[str, str]:
    if not isinstance(item, dict):
        raise _wrong(path, "an object of strings", item)
    for key, value in item.items():
        if not isinstance(value, str):
            raise _wrong(f"{path}.{key[:80]}", "a string", value)
    return item


_RANGES = {Kind.UINT32: (0, 2**32 - 1), Kind.SINT32: (-(2**31), 2**31 - 1), Kind.INT64: (-(2**63), 2**63 - 1)}


def _integer(kind: Kind, item: Any, path: str) -> int | str:
    low, high = _RANGES[kind]
    try:
        number = int(item) if isinstance(item, int) and not isinstance(item, bool) else None
        if (isinstance(item, float) and item.is_integer()) or (isinstance(item, str) and _INTEGER.fullmatch(item)):
            number = int(item)
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise invalid(f"{path}: expected an integer from {low} to {high}, got {_shown(item)}")
    return str(number) if kind is Kind.INT64 else number


def _shown(item: Any) -> str:
    """A value in an error: bounded, however long the request made it."""
    text = repr(item)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _wrong(path: str, wanted: str, item: Any) -> ConnectError:
    return invalid(f"{path}: expected {wanted}, got {_named(item)}")


def _named(item: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(item), "a number")
