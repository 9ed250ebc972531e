"""Conditional and range requests, as decisions without I/O. Source: RFC 9110 §13, §14."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from typing import Final

_RANGE: Final = re.compile(r"bytes=\s*([0-9]*)-([0-9]*)\s*")
_FAR: Final = 10**18
"""No file has so many bytes; longer numbers are not converted (Python refuses those of more than 4300 digits)."""


class Unsatisfiable(Exception):
    """No byte of the range exists."""


def http_date(seconds: float) -> str:
    """An instant as HTTP writes it."""
    return _date(int(seconds))


@lru_cache(256)
def _date(seconds: int) -> str:
    return formatdate(seconds, usegmt=True)


def _parse(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        return int(parsedate_to_datetime(value).timestamp())
    except (TypeError, ValueError, IndexError, OverflowError):
        return None  # an unreadable date is as if it were absent


def precondition(headers: Mapping[str, str], modified: float) -> int | None:
    """304 or 412 when the request's dates say so, else None."""
    since = _parse(headers.get("if-unmodified-since"))
    if since is not None and int(modified) > since:
        return 412
    since = _parse(headers.get("if-modified-since"))
    if since is not None and int(modified) <= since and "if-none-match" not in headers:
        return 304
    return None


def byte_range(headers: Mapping[str, str], size: int, modified: float) -> tuple[int, int] | None:
    """The one range to send as (first, length); None: send everything. Raises ``Unsatisfiable``.

    Several ranges, other units and malformed values are answered with everything, which the RFC allows.
    """
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or match[0] == "" or (not match[1] and not match[2]):
        return None
    if "if-range" in headers and _parse(headers["if-range"]) != int(modified):
        return None
    if not match[1]:
        length = min(_offset(match[2]), size)
        if length == 0:
            raise Unsatisfiable
        return size - length, length
    first = _offset(match[1])
    last = min(_offset(match[2]), size - 1) if match[2] else size - 1
    if match[2] and _offset(match[2]) < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, last - first + 1


def _offset(digits: str) -> int:
    return int(digits) if len(digits) < len(str(_FAR)) else _FAR


def is_conditional(headers: Mapping[str, str]) -> bool:
    """The request depends on the file's state; it is answered without compression."""
    return any(
        name in headers
        for name in ("range", "if-range", "if-modified-since", "if-unmodified-since", "if-none-match", "if-match")
    )


def encoding(header: str | None, plain: bool = False) -> str | None:
    """``identity`` or ``gzip`` for an ``Accept-Encoding``; None when neither is acceptable. ``plain``: it can only be
    identity.

    Identity whenever it is allowed and something besides gzip was offered: compressing costs ten times what the
    network does here. A client that names nothing but gzip asks for it, and gets it.
    """
    if header is None or not header.strip():
        return "identity"
    offers = _offers(header)
    wanted = {name for name, quality in offers.items() if quality > 0}
    gzip_ok = offers.get("gzip", offers.get("*", 0.0)) > 0
    if wanted == {"gzip"} and not plain:
        return "gzip"
    if offers.get("identity", 1.0 if offers.get("*") != 0.0 else 0.0) > 0:
        return "identity"
    return "gzip" if gzip_ok and not plain else None


def _offers(header: str) -> dict[str, float]:
    offers: dict[str, float] = {}
    for item in header.split(","):
        name, _, rest = item.partition(";")
        quality = re.fullmatch(r"\s*q\s*=\s*([01](?:\.\d*)?)\s*", rest)
        if name.strip():
            offers[name.strip().lower()] = float(quality[1]) if quality else 1.0
    return offers
