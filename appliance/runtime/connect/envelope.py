"""Connect's stream framing: one flag byte, four bytes of big-endian length, then the message.

Flag 0x01 says compressed (gzip, when the peer announced it), flag 0x02 marks the last frame of a response, whose body
is always JSON: ``{}`` or ``{"error": {"code", "message"}}``.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final

import msgspec

from appliance.runtime.connect.errors import Code, ConnectError, invalid

COMPRESSED: Final = 0x01
END: Final = 0x02
_HEAD: Final = 5


def frame(data: bytes) -> bytes:
    """``data`` as an ordinary frame."""
    return b"\x00" + len(data).to_bytes(4, "big") + data


def end_frame(error: ConnectError | None) -> bytes:
    """The last frame of a response."""
    data = b"{}" if error is None else msgspec.json.encode({"error": error.body()})
    return bytes((END,)) + len(data).to_bytes(4, "big") + data


async def frames(chunks: AsyncIterator[bytes], max_message: int, encoding: str | None) -> AsyncIterator[bytes]:
    """The messages in a request body; ends at the body's end or at an end frame.

    ``encoding`` is ``Connect-Content-Encoding``. Raises ``ConnectError``: resource_exhausted when a message is larger
    than ``max_message``, invalid_argument when the body ends inside a frame.
    """
    buffer = bytearray()
    async for chunk in chunks:
        buffer += chunk
        while len(buffer) >= _HEAD:
            flags, size = buffer[0], int.from_bytes(buffer[1:_HEAD], "big")
            if size > max_message:
                raise ConnectError(Code.RESOURCE_EXHAUSTED, f"message of {size} bytes; the limit is {max_message}")
            if len(buffer) < _HEAD + size:
                break
            message = bytes(buffer[_HEAD : _HEAD + size])
            del buffer[: _HEAD + size]
            if flags & END:
                return
            yield gunzip(message, max_message) if flags & COMPRESSED and encoding == "gzip" else _plain(flags, message)
    if buffer:
        raise invalid("the request body ends inside a frame")


def _plain(flags: int, message: bytes) -> bytes:
    if flags & COMPRESSED:
        raise invalid("a compressed frame without Connect-Content-Encoding: gzip")
    return message


def gunzip(data: bytes, limit: int) -> bytes:
    """Decompress at most ``limit`` bytes. Raises ``ConnectError`` when broken or larger."""
    decoder = zlib.decompressobj(31)
    try:
        plain = decoder.decompress(data, limit + 1)
    except zlib.error as error:
        raise invalid(f"the body is not gzip: {error}") from None
    if len(plain) > limit:
        raise ConnectError(Code.RESOURCE_EXHAUSTED, f"a message of more than {limit} bytes when decompressed")
    if not decoder.eof:
        raise invalid("the gzip body is cut off")
    return plain
