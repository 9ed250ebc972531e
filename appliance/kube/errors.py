"""What can go wrong with a request to the cluster, as a tree.

::

    KubeError
    ├── ApiError(status, reason, message, details)   the server answered, and not with 2xx
    │   ├── Unauthorized      401
    │   ├── Forbidden         403
    │   ├── NotFound          404
    │   ├── AlreadyExists     409, reason AlreadyExists
    │   ├── Conflict          409, any other reason: a guarded write lost
    │   ├── Gone              410: continue token or watch position expired
    │   ├── Invalid           422 (and 400: the server could not make sense of it)
    │   ├── TooManyRequests   429, with retry_after
    │   ├── StorageFull       507: nothing was changed
    │   └── ServerError       other 5xx, with retry_after when the server named one
    ├── Unreachable           no answer: refused, reset, cut off, or not understandable
    ├── RequestTimeout        no answer in time
    └── ConfigError           kubeconfig or service account unusable; nothing was sent

After a *write*, ``Unreachable`` and ``RequestTimeout`` mean *unknown outcome*: it may have been done. Only the
errors that somebody catches have a class; the rest of an answer is in its fields. The transport's own exception is
chained as ``__cause__``, never raised.
"""

from __future__ import annotations

from typing import Any

import msgspec


class KubeError(Exception):
    """Anything that kept a request to the cluster from succeeding."""


class ApiError(KubeError):
    """The server refused. ``status`` is the HTTP status, the others come from the Status body, if there was one."""

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        details: dict[str, Any] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}" if reason else f"{status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.retry_after = retry_after
        """Seconds after which the server asks to try again, if it said so."""


class Unauthorized(ApiError):
    """401: no or unknown credentials."""


class Forbidden(ApiError):
    """403: known, but not allowed; also how a terminating namespace refuses creations."""


class NotFound(ApiError):
    """404: no such object, or no such resource."""


class AlreadyExists(ApiError):
    """409 to a creation: the name is taken."""


class Conflict(ApiError):
    """409 to a guarded write or delete: the object changed, or is not the one that was meant."""


class Gone(ApiError):
    """410: the continue token or watch position is too old; list again."""


class Invalid(ApiError):
    """422 or 400: the body or a parameter is not acceptable; ``details["causes"]`` names the fields."""


class TooManyRequests(ApiError):
    """429: try again after ``retry_after`` seconds."""


class StorageFull(ApiError):
    """507: the cluster's store has no room left; unlike other 5xx it says that nothing was changed."""


class ServerError(ApiError):
    """5xx; after a write the outcome is unknown."""


class Unreachable(KubeError):
    """No usable answer came back. After a write the outcome is unknown."""


class RequestTimeout(KubeError):
    """No answer came back in time. After a write the outcome is unknown."""


class ConfigError(KubeError):
    """The kubeconfig or the service account cannot be used; the message names it."""


_BY_STATUS: dict[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
    507: StorageFull,
}


class _Status(msgspec.Struct, gc=False):
    """The metav1.Status body of a refusal; ERROR events of a watch carry the same."""

    message: str = ""
    reason: str = ""
    code: int = 0
    details: dict[str, Any] | None = None


_decode_status = msgspec.json.Decoder(_Status).decode


def from_answer(status: int, body: bytes, retry_after: str | None = None) -> ApiError:
    """The error for a non-2xx answer; ``body`` may be a Status, some proxy's HTML, or empty."""
    try:
        parsed = _decode_status(body)
    except msgspec.DecodeError:
        parsed = _Status(message=body[:200].decode("utf-8", "replace").strip())
    return _build(status, parsed, _seconds(retry_after))


def from_event(status: bytes | msgspec.Raw) -> ApiError:
    """The error in an ERROR event of a watch: its ``object`` is a Status with the HTTP status in ``code``."""
    try:
        parsed = _decode_status(status)
    except msgspec.DecodeError:
        parsed = _Status(message="the watch ended with an unreadable error")
    return _build(parsed.code or 500, parsed, None)


def _build(status: int, parsed: _Status, retry_after: float | None) -> ApiError:
    if status == 409 and parsed.reason == "AlreadyExists":
        kind: type[ApiError] = AlreadyExists
    else:
        kind = _BY_STATUS.get(status, ServerError if status >= 500 else ApiError)
    if retry_after is None and parsed.details:
        named = parsed.details.get("retryAfterSeconds")
        retry_after = float(named) if isinstance(named, int) and named > 0 else None
    return kind(status, parsed.reason, parsed.message or "no message", parsed.details, retry_after)


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds; its date form and nonsense count as absent."""
    if header is None or not header.strip().isdigit():
        return None
    return min(float(header), 3600.0)
