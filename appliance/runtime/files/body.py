"""Request bodies decoded as they come: identity or gzip."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Final

from appliance.runtime.http import HttpError, Request

_PIECE: Final = 256 * 1024


def is_plain(request: Request) -> bool:
    """Whether the body is sent as it is."""
    return _encoding(request) in ("identity", "")


def _encoding(request: Request) -> str:
    return request.headers.get("content-encoding", "identity").partition(";")[0].strip().lower()


def body_chunks(request: Request) -> AsyncIterator[bytes]:
    """The decoded body. Raises ``HttpError`` 400 for an unknown ``Content-Encoding`` or broken gzip."""
    if is_plain(request):
        return request.chunks()
    encoding = _encoding(request)
    if encoding == "gzip":
        return _gunzip(request.chunks())
    raise HttpError(400, f"Content-Encoding: expected gzip or identity, got {encoding!r}")


async def _gunzip(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Decompress piece by piece, so that a bomb costs disk, not memory. Members may follow each other."""
    decoder = zlib.decompressobj(31)
    started = False
    async for chunk in chunks:
        data = chunk
        while data:
            started = True
            if decoder.eof:
                decoder = zlib.decompressobj(31)
            try:
                plain = decoder.decompress(data, _PIECE)
            except zlib.error as error:
                raise HttpError(400, f"the body is not gzip: {error}") from None
            if plain:
                yield plain
            data = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
    if started and not decoder.eof:
        raise HttpError(400, "the gzip body is cut off")
