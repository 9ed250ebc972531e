"""One API key as it is stored: a hash and what it may do, never the key."""

from __future__ import annotations

import msgspec


class ApiKey(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of the Secret ``e2b-key-store``."""

    id: str
    """UUID; the ``owner`` of the sandboxes made with the key."""
    name: str
    team: str
    """Namespace whose sandboxes and templates it sees."""
    hash: str
    """Hex SHA-256 of the key."""
    created_at: str
    """RFC 3339."""
    admin: bool = False
    """Sees every namespace, and makes and deletes keys of every team."""
    hint: str = ""
    """Last four characters of the key, to tell keys apart in lists."""

    def acting_for(self, team: str) -> ApiKey:
        """The same key, confined to one team: what an admin key with ``X-Team-ID`` is."""
        return msgspec.structs.replace(self, team=team, admin=False)

    def may_see(self, namespace: str) -> bool:
        """Whether what lives in the namespace exists for this key."""
        return self.admin or namespace == self.team
