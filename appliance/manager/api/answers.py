"""Answers: JSON by msgspec, ten times cheaper than the framework's encoder; and numbers of the query string."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from quart import Response, request

from appliance.manager.errors import Fault, invalid


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    response = Response(msgspec.json.encode(body), status, content_type="application/json")
    if headers:
        response.headers.update(headers)
    return response


LATEST: Final = 10_413_791_999
"""Unix seconds of 2299-12-31T23:59:59Z, the last second that a range may name."""


def nothing() -> Response:
    """204."""
    response = Response(b"", 204)
    response.headers.pop("Content-Type", None)
    return response


def window() -> tuple[int, int]:
    """``start`` and ``end`` of the query, unix seconds; open where not given. Raises Fault 400."""
    start, end = whole("start", 0), whole("end", LATEST)
    if end > LATEST:
        raise Fault(400, "end time cannot be after 2299-12-31T23:59:59Z (expected unix seconds, not milliseconds)")
    if end < start:
        raise Fault(400, "end time cannot be before start time")
    return start, end


def whole(name: str, default: int, expected: str = "unix seconds") -> int:
    """A whole number of the query. Raises Fault 400 naming it."""
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise invalid(name, f"expected {expected}, got {text[:80]!r}")
    return int(text)


def bounded(name: str, default: int, most: int) -> int:
    """A whole number of the query from 1 to ``most``. Raises Fault 400 naming it."""
    number = whole(name, default, f"a whole number from 1 to {most}")
    if not 1 <= number <= most:
        raise invalid(name, f"expected a whole number from 1 to {most}, got {number}")
    return number
