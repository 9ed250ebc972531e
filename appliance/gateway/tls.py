"""The gateway's certificate: loaded at the start, and again when its files have changed, without a restart.

Whoever renews the files (the box itself, certbot, a Kubernetes Secret) needs to tell nobody. New connections get the
new certificate, existing ones go on. Files that do not fit together, as between the two writes of a renewal, leave the
old certificate in use.
"""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)
LOOK_EVERY = 10.0
"""Seconds between looks at the files."""


class Certificate:
    """``context`` offers HTTP/1.1 only by ALPN, so that clients that offer HTTP/2 fall back in the handshake."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Raises ``OSError`` (``ssl.SSLError`` is one) for files that are missing or do not fit together."""
        self._cert, self._key = cert, key
        self.context = _context()
        self._seen = self._stamps()
        self.context.load_cert_chain(cert, key)
        self._looked = 0.0

    @classmethod
    def of(cls, cert: Path | None, key: Path | None) -> Certificate | None:
        """None without files. Raises ``ValueError`` when only one is named, and as the constructor."""
        if cert is None and key is None:
            return None
        if cert is None or key is None:
            raise ValueError("tls_cert and tls_key must be set together")
        return cls(cert, key)

    def refresh(self, now: float) -> None:
        """Look at the files, if it is time again (``now`` in seconds), and use what they hold if they have changed."""
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        try:
            stamps = self._stamps()
            if stamps == self._seen:
                return
            self._seen = stamps
            _context().load_cert_chain(self._cert, self._key)  # a failed load would leave the live one half changed
            self.context.load_cert_chain(self._cert, self._key)
        except OSError as error:
            log.warning("%s and %s have changed and cannot be used: %s", self._cert, self._key, error)
            return
        log.info("%s has changed: in use for new connections", self._cert)

    def _stamps(self) -> tuple[tuple[int, int, int], ...]:
        found = (path.stat() for path in (self._cert, self._key))
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
