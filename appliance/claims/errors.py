"""Why a claim gave nothing. Whatever is raised here, nothing is left behind: the sandbox taken, if any, is deleted.

    ClaimError
    ├── TemplateNotFound     no SandboxSet of that name (404)
    ├── NoStock              nothing to deliver now, come back after ``retry_after`` seconds (429)
    ├── ClaimTimeout         the request's own time is over (504)
    ├── SandboxFailed        a sandbox made for this claim did not come up; the message says why (500)
    ├── UpdateFailed         the image or resources the claim asked for could not be given (400; 504: not in time)
    └── InitFailed           the sandbox's runtime could not be initialised (500)
        └── NetworkRefused   where the sandbox runs, nothing can be kept from it (400)

Errors of the cluster itself (``kube.errors.KubeError``) pass through unchanged.
"""

from __future__ import annotations


class ClaimError(Exception):
    """A claim that delivered nothing."""


class TemplateNotFound(ClaimError):
    """No SandboxSet of that name (in that namespace)."""

    def __init__(self, template: str, namespace: str | None) -> None:
        where = f" in namespace {namespace!r}" if namespace else ""
        super().__init__(f"template {template!r} not found{where}")
        self.template = template


class NoStock(ClaimError):
    """The pool is empty and no sandbox may be made, or too many are being made already."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which trying again makes sense."""


class ClaimTimeout(ClaimError):
    """The claim's whole time ran out; the message names the stage it was in."""


class SandboxFailed(ClaimError):
    """The sandbox made for this claim failed before it was ready."""


class UpdateFailed(ClaimError):
    """The image or resources asked for could not be given; the message names them and says why."""

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out


class InitFailed(ClaimError):
    """The runtime refused /init, could not be reached, or the network could not be cut as asked."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused
        """True when the runtime rejected the request itself; another sandbox would say the same."""


class NetworkRefused(InitFailed):
    """The node cannot enforce any network policy; another sandbox would fare no better."""

    def __init__(self, message: str) -> None:
        super().__init__(message, refused=True)
