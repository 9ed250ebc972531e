"""Who is calling: bearer tokens from ``run/tokens.json``, re-read when the file changes.

The file maps the SHA-256 (hex) of a token to ``{"user": …, "groups": […]}``; tokens themselves are never stored.
A damaged file keeps the last good contents and logs why.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from appliance.embedded.apiserver.status import unauthorized

log = logging.getLogger(__name__)
MAX_KNOWN = 1024
"""Tokens whose identity is remembered between changes of the file."""


@dataclass(frozen=True, slots=True)
class Identity:
    """An authenticated caller."""

    user: str
    groups: tuple[str, ...] = ()


class Tokens:
    """The token file. ``identify`` costs one ``stat`` and one dictionary look-up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int, int] | None = None
        self._by_hash: dict[str, Identity] = {}
        self._known: dict[str, Identity] = {}

    def identify(self, authorization: str | None) -> Identity:
        """The caller behind an ``Authorization`` header; ApiStatus 401 for none or an unknown one."""
        if authorization is None:
            raise unauthorized()
        self._refresh()
        identity = self._known.get(authorization)
        if identity is not None:
            return identity
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise unauthorized()
        identity = self._by_hash.get(hashlib.sha256(token.strip().encode()).hexdigest())
        if identity is None:
            raise unauthorized()
        if len(self._known) < MAX_KNOWN:
            self._known[authorization] = identity
        return identity

    def _refresh(self) -> None:
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            self._stamp, self._by_hash = None, {}
            self._known.clear()
            return
        stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._by_hash = parse_tokens(self._path.read_bytes())
        except (OSError, ValueError) as error:
            log.error("ignoring %s, the former tokens stay valid: %s", self._path, error)
            return
        self._known.clear()


def parse_tokens(data: bytes) -> dict[str, Identity]:
    """Reads the file's contents; ValueError naming the entry that is wrong."""
    table: Any = msgspec.json.decode(data)
    if not isinstance(table, dict):
        raise ValueError("expected an object of SHA-256 hex digests")
    found = {}
    for digest, entry in table.items():
        user = entry.get("user") if isinstance(entry, dict) else None
        groups = entry.get("groups", []) if isinstance(entry, dict) else None
        if not isinstance(user, str) or not isinstance(groups, list) or len(digest) != 64:
            raise ValueError(f'entry {digest[:8]!r}…: expected {{"user": string, "groups": [string]}} under a SHA-256')
        found[digest.lower()] = Identity(user, tuple(str(group) for group in groups))
    return found
