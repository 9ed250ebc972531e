"""Browsers: pages of any origin may call the API, which is guarded by keys in headers and knows no cookies."""

from __future__ import annotations

from typing import Final

from quart import Response

from appliance.manager.api.answers import nothing

_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
_EXPOSED: Final = {
    "Access-Control-Expose-Headers": "X-Next-Token, X-Total-Running, X-Request-ID, Retry-After, Should-Retry"
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "*, Authorization",  # the star does not cover that one
    "Access-Control-Max-Age": "7200",
}


def preflight() -> Response:
    """What a browser is told before its request; it sends no key with the question."""
    response = nothing()
    response.headers.update(_PREFLIGHT)
    return response


def allow(response: Response) -> None:
    """Let the page that asked read the answer and the headers that clients need."""
    response.headers.update(_ORIGIN | _EXPOSED)
