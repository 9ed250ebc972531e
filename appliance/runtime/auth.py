"""Who may call: the access token, and signatures for file URLs.

With a token set everything needs it in ``X-Access-Token``, except ``GET /health`` and preflights. ``/files`` also
accepts a signature; ``/init`` also accepts the token in its body (checked there).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from typing import Final

from appliance.runtime.http import HttpError, Request
from appliance.runtime.state import RuntimeState

UNAUTHORIZED: Final = "unauthorized access, please provide a valid access token or method signing if supported"
_OWN_RULE: Final = frozenset({"/health", "/init", "/files"})


def check_token(request: Request, state: RuntimeState) -> None:
    """Raises ``HttpError`` 401 unless the request may pass; paths with a rule of their own always pass."""
    if state.access_token is None or request.method == "OPTIONS" or request.path in _OWN_RULE:
        return
    if not state.token_matches(request.headers.get("x-access-token")):
        raise HttpError(401, UNAUTHORIZED)


def sign(path: str, operation: str, username: str, token: str, expiration: str | None) -> str:
    """The signature of a file URL: ``v1_`` and unpadded base64 of SHA-256; ``operation`` is read or write."""
    parts = [path, operation, username, token]
    if expiration is not None:
        parts.append(expiration)
    digest = hashlib.sha256(":".join(parts).encode("utf-8", "surrogateescape")).digest()
    return "v1_" + base64.b64encode(digest).rstrip(b"=").decode()


def check_files(request: Request, state: RuntimeState, operation: str) -> None:
    """Header or signature for ``/files``. Raises ``HttpError`` 401. The signature is compared first, its age after."""
    if state.access_token is None:
        return
    header = request.headers.get("x-access-token")
    if header is not None:
        if not state.token_matches(header):
            raise HttpError(401, "access token present in header but does not match")
        return
    query = request.query
    given = query.get("signature")
    if given is None:
        raise HttpError(401, "missing signature query parameter")
    expiration = query.get("signature_expiration")
    wanted = sign(query.get("path", ""), operation, query.get("username", ""), state.access_token, expiration)
    if not hmac.compare_digest(wanted.encode(), given.encode("utf-8", "replace")):
        raise HttpError(401, "invalid signature")
    if expiration is not None and _expired(expiration):
        raise HttpError(401, "signature is already expired")


def _expired(expiration: str) -> bool:
    try:
        return int(expiration) < time.time()
    except ValueError:
        raise HttpError(400, f"signature_expiration: expected unix seconds, got {expiration!r}") from None
