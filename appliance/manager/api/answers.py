"""Answers: JSON by msgspec, which is ten times cheaper than the framework's encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from quart import Response


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    response = Response(msgspec.json.encode(body), status, content_type="application/json")
    if headers:
        response.headers.update(headers)
    return response


def nothing() -> Response:
    """204."""
    response = Response(b"", 204)
    response.headers.pop("Content-Type", None)
    return response
