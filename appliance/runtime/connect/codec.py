"""The seam between the two codecs: content type -> how messages become bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

from appliance.runtime.connect import jsonform, wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from appliance.runtime.connect.message import Message

M = TypeVar("M", bound="Message")


class Decode(Protocol):
    """Bytes to a message; raises ``ConnectError`` invalid_argument."""

    def __call__(self, data: bytes, message: type[M]) -> M: ...


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to write messages."""

    name: str
    encode: Callable[[Message], bytes]
    decode: Decode


JSON = Codec("json", jsonform.encode, jsonform.decode)
PROTO = Codec("proto", wire.encode, wire.decode)

UNARY = {"application/json": JSON, "application/proto": PROTO}
"""Content types of unary calls."""
STREAM = {"application/connect+json": JSON, "application/connect+proto": PROTO}
"""Content types of streams, whose bodies are envelopes."""
