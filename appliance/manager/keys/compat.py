"""Keys of any shape in the shape old E2B clients insist on: ``e2b_`` and hex digits (``openkruise-agents.md`` §3.4).

Keys made here already have that shape. An operator's own (``some-api-key``) can be written as
``e2b_ 6f6b6167 01 LENGTH HEX(key) CHECK``; both spellings open the same door.
"""

from __future__ import annotations

import hashlib
import re

_MAGIC = "e2b_6f6b616701"
_SALT = b"openkruise-agents/e2b-key-compat/v1"
_NATIVE = re.compile(r"e2b_[0-9a-f]+")


def encode(key: str) -> str:
    """The key as E2B clients accept it; unchanged when it already is."""
    if _NATIVE.fullmatch(key):
        return key
    raw = key.encode()
    return f"{_MAGIC}{len(raw):08x}{raw.hex()}{_check(raw)}"


def decode(key: str) -> str:
    """The key behind an encoded one; anything else is returned as it is."""
    if not key.startswith(_MAGIC):
        return key
    rest = key[len(_MAGIC) :]
    try:
        length = int(rest[:8], 16)
        raw = bytes.fromhex(rest[8:-8])
        return raw.decode() if len(raw) == length and rest[-8:] == _check(raw) else key
    except ValueError:
        return key


def _check(raw: bytes) -> str:
    return hashlib.sha256(_SALT + raw).hexdigest()[:8]
