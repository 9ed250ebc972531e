"""Who a request comes from: the four schemes of contract §1.2, all of them answered by the one store of API keys.

``X-API-Key`` and ``Authorization: Bearer`` carry any key, ``X-Admin-Token`` an admin key. With ``X-Team-ID`` an admin
key acts for that team, and for nothing else, while the request lasts; any other key may only name its own team.
"""

from __future__ import annotations

import re

from werkzeug.datastructures import Headers

from appliance.manager.errors import Fault
from appliance.manager.keys.model import ApiKey
from appliance.manager.keys.store import KeyStore

_BEARER = re.compile(r"Bearer +(\S+)", re.IGNORECASE)
_EXPECTED = "expected the header X-API-Key (or Authorization: Bearer, or X-Admin-Token), got none"


def authenticate(headers: Headers, keys: KeyStore) -> ApiKey:
    """The caller. Raises Fault 401 without a valid key, 403 for a team that is not the key's."""
    key = _key(headers, keys)
    team = headers.get("X-Team-ID", "").strip()
    if not team or team == key.team:
        return key
    if not key.admin:
        raise Fault(403, f"team {team[:80]!r} is not the team of this API key")
    return key.acting_for(team)


def _key(headers: Headers, keys: KeyStore) -> ApiKey:
    given = headers.get("X-API-Key") or _bearer(headers.get("Authorization", ""))
    admin = headers.get("X-Admin-Token") if not given else None
    if not (given or admin):
        raise Fault(401, f"Invalid API Key: {_EXPECTED}")
    key = keys.authenticate((given or admin or "").strip())
    if key is None:
        raise Fault(401, "Invalid API Key: it is unknown here, or was deleted")
    if admin and not key.admin:
        raise Fault(401, "Invalid admin token: this API key is not an admin key")
    return key


def _bearer(header: str) -> str:
    match = _BEARER.fullmatch(header)
    return match[1] if match else ""
