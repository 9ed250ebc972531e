"""The API server's errors: every refusal is a ``Status`` with the reason, code and text that clients match on.

Handlers raise :class:`ApiStatus`; the HTTP layer is the only place that turns one into a response. Texts follow the
real API server's, because people search for them and clients (kubectl, client-go) parse ``reason`` and ``details``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from appliance.embedded.apiserver.resources import Resource

EMBEDDED_NOTE = "this is the appliance's embedded cluster, which serves only the kinds sandboxes need"


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: ``field`` path, ``reason`` (FieldValueInvalid, …) and the text after the path."""

    field: str
    reason: str
    detail: str

    def __str__(self) -> str:
        return f"{self.field}: {self.detail}" if self.field else self.detail


class ApiStatus(Exception):
    """A refused request. ``code`` is the HTTP status, ``reason`` the machine-readable word."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.retry_after = retry_after

    def body(self) -> dict[str, Any]:
        """The ``Status`` object as clients receive it."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


def _details(res: Resource, name: str | None) -> dict[str, Any]:
    details: dict[str, Any] = {"kind": res.plural}
    if res.group:
        details["group"] = res.group
    if name:
        details["name"] = name
    return details


def bad_request(message: str) -> ApiStatus:
    """400: the request itself cannot be understood."""
    return ApiStatus(400, "BadRequest", message)


def unauthorized() -> ApiStatus:
    """401: no token, or one that is not in tokens.json."""
    return ApiStatus(401, "Unauthorized", "Unauthorized")


def forbidden(res: Resource, name: str | None, why: str, causes: list[dict[str, str]] | None = None) -> ApiStatus:
    """403 with the reason in words."""
    shown = f'{res.qualified} "{name}"' if name else res.qualified
    details = _details(res, name)
    if causes:
        details["causes"] = causes
    return ApiStatus(403, "Forbidden", f"{shown} is forbidden: {why}", details=details)


def not_found(res: Resource, name: str) -> ApiStatus:
    """404 for a missing object."""
    return ApiStatus(404, "NotFound", f'{res.qualified} "{name}" not found', details=_details(res, name))


def unknown_path(path: str) -> ApiStatus:
    """404 for a kind or path this cluster does not serve; says which one and why."""
    message = f"the server could not find the requested resource: {path} ({EMBEDDED_NOTE})"
    return ApiStatus(404, "NotFound", message, details={})


def method_not_allowed(res: Resource | None, what: str) -> ApiStatus:
    """405: the resource exists and does not support the verb."""
    return ApiStatus(405, "MethodNotAllowed", what, details=_details(res, None) if res else None)


def already_exists(res: Resource, name: str) -> ApiStatus:
    """409 on create."""
    return ApiStatus(409, "AlreadyExists", f'{res.qualified} "{name}" already exists', details=_details(res, name))


def conflict(res: Resource, name: str, why: str | None = None) -> ApiStatus:
    """409 on a guarded write that lost."""
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    message = f'Operation cannot be fulfilled on {res.qualified} "{name}": {why}'
    return ApiStatus(409, "Conflict", message, details=_details(res, name))


def gone(message: str) -> ApiStatus:
    """410: the history a watch or continue token needs is no longer kept."""
    return ApiStatus(410, "Expired", message)


def invalid(res: Resource, name: str, errors: list[FieldError]) -> ApiStatus:
    """422 naming every wrong field."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    text = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    kind = f"{res.kind}.{res.group}" if res.group else res.kind
    details = _details(res, name) | {
        "kind": res.kind,
        "causes": [{"reason": e.reason, "message": e.detail, "field": e.field} for e in errors],
    }
    return ApiStatus(422, "Invalid", f'{kind} "{name}" is invalid: {text}', details=details)


def too_large(limit: int) -> ApiStatus:
    """413: body over the limit (bytes)."""
    return ApiStatus(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def unsupported_media(supported: tuple[str, ...]) -> ApiStatus:
    """415: a body in a format this server does not read."""
    message = "the body of the request was in an unknown format - accepted media types include: "
    return ApiStatus(415, "UnsupportedMediaType", message + ", ".join(supported))


def not_acceptable(supported: str) -> ApiStatus:
    """406: the client accepts only formats this server does not write."""
    return ApiStatus(406, "NotAcceptable", f"only the following media types are accepted: {supported}")


def resource_version_too_large(asked: int, current: int) -> ApiStatus:
    """504, as the real server's watch cache answers for a version it has not reached."""
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    details = {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]}
    return ApiStatus(504, "Timeout", message, details=details | {"retryAfterSeconds": 1}, retry_after=1)


def internal(message: str) -> ApiStatus:
    """500 with words."""
    return ApiStatus(500, "InternalError", f"Internal error occurred: {message}")


def unavailable(message: str) -> ApiStatus:
    """503: shutting down, or a part of the box does not answer."""
    return ApiStatus(503, "ServiceUnavailable", message, retry_after=1)


def storage_full(message: str) -> ApiStatus:
    """507: the store's disk refused a write; nothing was changed."""
    return ApiStatus(507, "InsufficientStorage", message)
