"""Every refusal of the control API: one exception, one table from other layers' errors to it.

A body is always ``{"code": <HTTP status>, "message": <text>}``: SDKs read ``code`` from the body, not from the status
line (contract §1.4). Texts that clients or tests compare are made here and nowhere else. What went wrong inside the
cluster is logged, not told: messages to clients name the sandbox and the field, never an address or a credential.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import ValidationError

from appliance.kube import errors as kube


class Fault(Exception):
    """An answer that is not 2xx.

    ``status`` is the HTTP status and the body's ``code``; ``headers`` are added to the answer; ``error_code`` is E2B's
    machine-readable word, where it has one.
    """

    def __init__(
        self, status: int, message: str, *, error_code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.error_code = error_code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The JSON body."""
        body: dict[str, object] = {"code": self.status, "message": self.message}
        if self.error_code is not None:
            body["error_code"] = self.error_code
        return body


def invalid(field: str, expected: str) -> Fault:
    """400 that names the field and what was expected of it."""
    return Fault(400, f"validation error: {field}: {expected}")


def unsupported(option: str, why: str = "") -> Fault:
    """400 for a known option that cannot be honoured here: never a silent no-op."""
    return Fault(400, f"{option} is not supported by this server" + (f": {why}" if why else ""))


def not_implemented(feature: str) -> Fault:
    """501 for a whole feature; retrying does not help."""
    return Fault(501, f"{feature} are not supported by this server yet", headers={"Should-Retry": "false"})


def sandbox_not_found(sandbox_id: str) -> Fault:
    """404 for what is unknown, dead or another team's: the three cannot be told apart (§1.10)."""
    return Fault(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")


def template_not_found(template: str) -> Fault:
    """404 for a template that is unknown or another team's."""
    return Fault(404, f"template '{template}' not found")


def busy(message: str, retry_after: float | None = None, *, error_code: str | None = None) -> Fault:
    """429 that asks the client to come back: SDKs replay it after ``Retry-After`` whole seconds."""
    wait = max(1, math.ceil(retry_after or 1))
    return Fault(429, message, error_code=error_code, headers={"Retry-After": str(wait), "Should-Retry": "true"})


def from_validation(error: ValidationError) -> Fault:
    """400 for a body that does not fit: names the first field at fault and counts the others."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = found[0]
    if first["type"] == "json_invalid":
        return Fault(400, f"validation error: body: {first['msg']}")
    where = ".".join(str(step) for step in first["loc"]) or "body"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return Fault(400, f"validation error: {where}: {first['msg']}{more}")


def from_kube(error: kube.KubeError) -> Fault:
    """What the cluster's refusal means to a client of ours; the caller logs ``error`` itself."""
    match error:
        case kube.TooManyRequests():
            return busy("the cluster is overloaded, try again", error.retry_after)
        case kube.NotFound() | kube.Gone():
            return Fault(404, "the object no longer exists")
        case kube.Conflict() | kube.AlreadyExists():
            return Fault(409, "the object was changed by somebody else at the same time, try again")
        case kube.StorageFull():
            return Fault(507, "the cluster's store has no room left on its disk: free space there and try again")
        case kube.Invalid():
            return Fault(400, f"the cluster refused the object: {error.message}")
        case kube.Forbidden() | kube.Unauthorized():
            return Fault(500, "this server is not allowed to do that in the cluster")
        case _:
            return Fault(503, "the cluster is not reachable, try again", headers={"Retry-After": "1"})
