"""Who may use the deck in a browser. No I/O, no server: values of a request in, a verdict out.

The address that is printed once carries a token. Whoever opens it gets a cookie and is sent to the address without the
token, so that it stays in no history, no bookmark and no log. Everything but that first request needs the cookie. The
WebSocket is also asked where it comes from: a foreign page that talks to this server with the visitor's cookie is
refused. Token and cookie are different secrets; both are made anew at every start.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


def _secret() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Gatekeeper:
    """The two secrets of one start, and how many may look at once."""

    port: int
    """Cookies know no ports: it is part of the cookie's name, so that two decks on one host do not fight."""
    limit: int = 4
    """Sessions at a time; each is a process of its own."""
    token: str = field(default_factory=_secret, repr=False)
    pass_value: str = field(default_factory=_secret, repr=False)
    _inside: set[str] = field(default_factory=set, repr=False)

    @property
    def cookie(self) -> str:
        """Name of the cookie."""
        return f"appliance-deck-{self.port}"

    def knows_token(self, query: Mapping[str, str]) -> bool:
        """Whether the query carries the token."""
        return secrets.compare_digest(query.get("token", "").encode(), self.token.encode())

    def knows_cookie(self, cookies: Mapping[str, str]) -> bool:
        """Whether the cookie is the one that was given for the token."""
        return secrets.compare_digest(cookies.get(self.cookie, "").encode(), self.pass_value.encode())

    @staticmethod
    def from_here(headers: Mapping[str, str]) -> bool:
        """Whether the page that opens a WebSocket was served by the host it connects to."""
        origin, host = headers.get("Origin", ""), headers.get("Host", "")
        return bool(host) and urlsplit(origin).netloc == host

    @property
    def full(self) -> bool:
        """Whether all places are taken."""
        return len(self._inside) >= self.limit

    def enter(self, name: str) -> Callable[[], None]:
        """Take a place; the answer gives it back. Raises RuntimeError when all are taken."""
        if self.full:
            raise RuntimeError(f"all {self.limit} sessions are taken")
        self._inside.add(name)
        return lambda: self._inside.discard(name)
