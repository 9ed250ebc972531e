"""Identifiers and derived secrets."""

import re

import pytest

from appliance.api import ids


def test_sandbox_ids_are_unique_dns_labels() -> None:
    """A thousand ids differ and each is a letter and twenty of [a-z0-9]."""
    made = {ids.new_sandbox_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"i[a-z0-9]{20}", one) for one in made)


def test_access_tokens_depend_on_seed_and_id_alone() -> None:
    """Every replica derives the same token; another id or seed gives another; no seed is refused."""
    token = ids.access_token(b"seed", "i1")
    assert token == ids.access_token(b"seed", "i1")
    assert len({token, ids.access_token(b"seed", "i2"), ids.access_token(b"other", "i1")}) == 3
    with pytest.raises(ValueError, match="seed"):
        ids.access_token(b"", "i1")


def test_api_keys_have_the_form_clients_check() -> None:
    """Keys are e2b_ and 40 hex digits; what is stored is the SHA-256, 64 hex digits, and not the key."""
    key = ids.new_api_key()
    assert re.fullmatch(r"e2b_[0-9a-f]{40}", key)
    assert re.fullmatch(r"[0-9a-f]{64}", ids.hash_api_key(key))
    assert ids.hash_api_key("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
