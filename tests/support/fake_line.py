"""A connection to a runtime that exists only in a test's mind."""

from __future__ import annotations

from appliance.claims.runtime_client import Line


class FakeLine(Line):
    """Connects nobody, and remembers whether it was ended."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.open = True

    def hang_up(self) -> None:
        """End it."""
        self.open = False
