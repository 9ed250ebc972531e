"""Signed file URLs, as far as the control plane must judge them: before a paused sandbox is woken (contract §1.13).

``v1_`` and the unpadded base64 of SHA-256 over ``path:operation:user:token[:expiration]``. The runtime checks the same
again; here a wrong or expired one only does not wake.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from urllib.parse import parse_qs

from appliance.gateway.routes import Credentials

_OPERATIONS = {b"GET": "read", b"POST": "write"}
MAX_QUERY = 16 * 1024
"""Bytes of a query that are looked at."""


def signed(token: str, request: Credentials, now: datetime) -> bool:
    """Whether the request is for ``/files`` and carries a signature made with ``token`` that holds at ``now``."""
    path, _, query = request.url.partition(b"?")
    operation = _OPERATIONS.get(request.method)
    if path != b"/files" or operation is None or len(query) > MAX_QUERY:
        return False
    found = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    text = ":".join([_first(found, "path"), operation, _first(found, "username"), token])
    expires, dated = _first(found, "signature_expiration"), "signature_expiration" in found
    if dated:
        text += f":{expires}"
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    if not hmac.compare_digest(_first(found, "signature").encode(), f"v1_{digest}".encode()):
        return False
    return not dated or (expires.isascii() and expires.isdigit() and int(expires[:15]) >= now.timestamp())


def _first(found: dict[str, list[str]], name: str) -> str:
    return found.get(name, [""])[0]
