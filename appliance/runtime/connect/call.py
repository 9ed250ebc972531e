"""What the headers of a call say: user, deadline, keepalive interval."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from appliance.runtime.connect.errors import invalid
from appliance.runtime.http import Request


@dataclass(frozen=True, slots=True)
class Call:
    """One call's circumstances, read lazily from its headers."""

    request: Request
    default_keepalive: float

    def user(self) -> str | None:
        """The basic-auth user name, None when the call names none. Raises ``ConnectError`` on malformed credentials."""
        header = self.request.headers.get("authorization", "")
        scheme, _, value = header.partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            name = base64.b64decode(value.strip(), validate=True).decode().partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            raise invalid("Authorization: expected Basic base64(user:)") from None
        return name or None

    def timeout(self) -> float | None:
        """Seconds of ``Connect-Timeout-Ms``; None when absent or 0. Raises ``ConnectError`` when it is no number."""
        header = self.request.headers.get("connect-timeout-ms")
        if not header:
            return None
        if not (header.isascii() and header.isdigit() and len(header) <= 19):
            raise invalid(f"Connect-Timeout-Ms: expected milliseconds, got {header!r}")
        return int(header) / 1000 or None

    def keepalive(self) -> float:
        """Seconds between keepalive events; never below one second."""
        header = self.request.headers.get("keepalive-ping-interval", "")
        if header.isascii() and header.isdigit() and 0 < len(header) <= 6 and int(header) > 0:
            return float(header)
        return self.default_keepalive
