"""Identifiers and secrets: how they look, and which of them can be derived instead of stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string

_ALPHABET = string.ascii_lowercase + string.digits


def new_sandbox_id() -> str:
    """A fresh sandbox id: ``i`` and 20 of ``[a-z0-9]`` (103 bits), valid as label value and as DNS label."""
    return "i" + "".join(secrets.choice(_ALPHABET) for _ in range(20))


def access_token(seed: bytes, sandbox_id: str) -> str:
    """The runtime access token of one delivery: hex HMAC-SHA256 of the sandbox id under the cluster's seed.

    Derived, so that no secret needs to be stored per sandbox and every manager replica agrees.
    """
    if not seed:
        raise ValueError("seed: expected random bytes, got none")
    return hmac.new(seed, sandbox_id.encode(), hashlib.sha256).hexdigest()


def new_api_key() -> str:
    """A fresh API key in the form E2B clients accept: ``e2b_`` and 40 hex digits."""
    return "e2b_" + secrets.token_hex(20)


def hash_api_key(key: str) -> str:
    """What is stored of an API key: hex SHA-256. Keys carry 160 random bits, so no salt or stretching is needed."""
    return hashlib.sha256(key.encode()).hexdigest()
