"""Reading the protobuf bodies that kubectl sends for core kinds (``kubectl create namespace`` and its kind).

Answers are always JSON, which every client accepts; only request bodies need this. Field numbers come from
``schema/core_proto.txt``. The envelope is ``k8s\\0`` and a ``runtime.Unknown``: apiVersion, kind and the raw message.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from appliance.embedded.apiserver.status import bad_request

MEDIA = "application/vnd.kubernetes.protobuf"
_MAGIC = b"k8s\0"
_GROUPS = {"v1": "core.v1", "coordination.k8s.io/v1": "coordination.v1", "authorization.k8s.io/v1": "authorization.v1"}
MAX_DEPTH = 64


class _Field(NamedTuple):
    name: str
    type: str


class _Malformed(Exception):
    """Bytes that are no protobuf message of the expected kind."""


@cache
def _messages() -> dict[str, dict[int, _Field]]:
    text = (resources.files(__package__) / "schema" / "core_proto.txt").read_text()
    table: dict[str, dict[int, _Field]] = {}
    fields: dict[int, _Field] = {}
    for line in text.splitlines():
        if line.startswith("  "):
            number, name, kind = line.split()
            fields[int(number)] = _Field(name, kind)
        elif not line.startswith("#"):
            table[line] = fields = {}
    return table


def decode_object(data: bytes) -> dict[str, Any]:
    """The object as JSON values; ApiStatus 400 when the bytes or the kind cannot be read."""
    if not data.startswith(_MAGIC):
        raise bad_request("the object provided is unrecognized: it is no Kubernetes protobuf message")
    try:
        envelope = dict(_fields(data[len(_MAGIC) :]))
        types = dict(_fields(_bytes(envelope.get(1, b""))))
        api_version, kind = _bytes(types.get(1, b"")).decode(), _bytes(types.get(2, b"")).decode()
        message = f"{_GROUPS.get(api_version, api_version)}.{kind}"
        if kind == "DeleteOptions":
            message = "meta.v1.DeleteOptions"
        if message not in _messages():
            raise bad_request(f"{kind} in version {api_version} cannot be read as protobuf: send it as JSON")
        decoded = _message(message, _bytes(envelope.get(2, b"")), 0)
    except (_Malformed, UnicodeDecodeError, struct.error) as error:
        raise bad_request(f"the object provided is unrecognized: malformed protobuf: {error}") from None
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _bytes(value: int | bytes) -> bytes:
    if not isinstance(value, bytes):
        raise _Malformed("expected a length-delimited field")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """``(number, value)`` of every field of a message, in order."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = 8 if wire == 1 else 4
        if wire == 2:
            size, at = _varint(data, at)
        elif wire not in (1, 5):
            raise _Malformed(f"wire type {wire}")
        if at + size > len(data):
            raise _Malformed("truncated")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Malformed("truncated")
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise _Malformed("number too long")


def _message(name: str, data: bytes, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _Malformed("nested too deeply")
    table = _messages()[name]
    found: dict[str, Any] = {}
    for number, raw in _fields(data):
        field = table.get(number)
        if field is None:
            continue
        if field.name == "^":
            found.update(_message(field.type, _bytes(raw), depth + 1))
        elif field.type.startswith("[]"):
            found.setdefault(field.name, []).append(_value(field.type[2:], raw, depth))
        elif field.type.startswith("map:"):
            entry = dict(_fields(_bytes(raw)))
            key = _bytes(entry.get(1, b"")).decode()
            found.setdefault(field.name, {})[key] = _value(field.type[4:], entry.get(2, b""), depth)
        else:
            value = _value(field.type, raw, depth)
            if value is not None and not (value == "" and field.type == "string"):
                found[field.name] = value
    return found


def _value(kind: str, raw: int | bytes, depth: int) -> Any:
    if kind in ("int32", "int64"):
        if not isinstance(raw, int):
            raise _Malformed("expected a number")
        return raw - (1 << 64) if raw >> 63 else raw
    if kind == "bool":
        return bool(raw)
    data = _bytes(raw)
    if kind == "string":
        return data.decode()
    if kind == "bytes":
        return base64.b64encode(data).decode()
    if kind == "double":
        return struct.unpack("<d", data)[0]
    if kind in ("time", "micro-time"):
        return _time(data, kind)
    if kind in ("quantity", "int-or-string", "raw"):
        return _special(kind, dict(_fields(data)))
    return _message(kind, data, depth + 1)


def _time(data: bytes, kind: str) -> str | None:
    fields = dict(_fields(data))
    seconds = fields.get(1, 0)
    if not fields or not isinstance(seconds, int) or seconds >> 62:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    if kind == "time":
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    nanos = fields.get(2, 0)
    micros = nanos // 1000 if isinstance(nanos, int) else 0
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{micros:06d}Z"


def _special(kind: str, fields: dict[int, int | bytes]) -> Any:
    if kind == "quantity":
        return _bytes(fields.get(1, b"")).decode()
    if kind == "int-or-string":
        return _bytes(fields.get(3, b"")).decode() if fields.get(1) else fields.get(2, 0)
    text = _bytes(fields.get(1, b""))
    return json.loads(text) if text else None
