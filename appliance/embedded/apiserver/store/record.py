"""A stored object: its JSON bytes and the little metadata that reads, selectors and garbage collection need.

Records are immutable, so a list, a watch and a page snapshot may share one without copying.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
NOTHING: Mapping[str, str] = {}


class Record(NamedTuple):
    """One version of one object. ``namespace`` is "" for cluster-scoped kinds."""

    resource: str
    """Store key of the kind: ``plural`` or ``plural.group``."""
    namespace: str
    name: str
    version: int
    """The object's resourceVersion."""
    uid: str
    body: bytes
    """The whole object as JSON, resourceVersion included."""
    labels: Mapping[str, str]
    fields: Mapping[str, str]
    """Values of the kind's selectable fields."""
    owners: tuple[str, ...]
    """uids of its ownerReferences."""
    deleting: bool

    def object(self) -> dict[str, Any]:
        """A private decoded copy."""
        decoded: dict[str, Any] = _decode(self.body)
        return decoded


def make_record(resource: str, obj: Mapping[str, Any], version: int, selectable: Iterable[str] = ()) -> Record:
    """Encodes ``obj`` (its resourceVersion is already ``version``) and extracts what is indexed."""
    meta = obj["metadata"]
    owners = meta.get("ownerReferences")
    return Record(
        resource,
        meta.get("namespace", ""),
        meta["name"],
        version,
        meta["uid"],
        _encode(obj),
        meta.get("labels") or NOTHING,
        {path: value for path in selectable if (value := _text(obj, path))} or NOTHING,
        tuple(owner["uid"] for owner in owners) if owners else (),
        "deletionTimestamp" in meta,
    )


def _text(obj: Mapping[str, Any], path: str) -> str:
    value: Any = obj
    if path == "source":
        return str((obj.get("source") or {}).get("component", ""))
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def encode(obj: Any) -> bytes:
    """Compact JSON."""
    return _encode(obj)


def decode(data: bytes) -> Any:
    """Parsed JSON; raises msgspec.DecodeError."""
    return _decode(data)
