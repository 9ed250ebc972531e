"""Building HTTP responses: JSON bytes with their warnings, and Status objects."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from aiohttp import web

from appliance.embedded.apiserver.status import ApiStatus

JSON = "application/json"
_encode = msgspec.json.Encoder().encode


def json_bytes(body: bytes, *, code: int = 200, warnings: Iterable[str] = (), media: str = JSON) -> web.Response:
    """A response with an encoded body; each warning becomes a ``Warning: 299`` header."""
    response = web.Response(body=body, status=code, headers={"Content-Type": media})
    for warning in warnings:
        text = warning.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ")
        response.headers.add("Warning", f'299 - "{text}"')
    return response


def json_value(value: Any, *, code: int = 200, warnings: Iterable[str] = (), media: str = JSON) -> web.Response:
    """A response with ``value`` as JSON."""
    return json_bytes(_encode(value), code=code, warnings=warnings, media=media)


def failure(status: ApiStatus) -> web.Response:
    """The response of a refused request."""
    response = json_value(status.body(), code=status.code)
    if status.retry_after is not None:
        response.headers["Retry-After"] = str(status.retry_after)
    return response


def success(res_kind: str, group: str, name: str, uid: str) -> dict[str, Any]:
    """The Status of a completed delete."""
    details = {"name": name, "kind": res_kind, "uid": uid}
    if group:
        details["group"] = group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
