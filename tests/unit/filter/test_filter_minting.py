"""Certificates for hosts of rules: valid for a client that trusts the authority, made once, renewed in time."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta

import pytest

from appliance.api.header_rules import Authority
from appliance.claims.authority import new_authority
from appliance.embedded.filter.minting import LIFE, RENEWED, Mint

OWN = new_authority()
NAMES = ("a.test", "x" * 63 + "." + "y" * 63)


def shake(server: ssl.SSLContext, trusted: str, name: str) -> ssl.SSLObject:
    """A client's side of a handshake in memory. Raises ``ssl.SSLError``."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=trusted)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    own, other = client.wrap_bio(back, there, server_hostname=name), server.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (own, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return own


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_trusts_the_authority_accepts_it(name: str) -> None:
    """Also by the strict rules and with long names; for another name, or of another authority, it is refused."""
    context = Mint(OWN).context(name)
    assert shake(context, OWN.certificate, name).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, OWN.certificate, "other.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake(context, new_authority().certificate, name)


def test_one_is_made_once_and_renewed_before_its_end() -> None:
    """The clock decides; it never outlives the authority."""
    now = [datetime.now(UTC)]
    mint = Mint(OWN, lambda: now[0])
    first = mint.context("a.test")
    assert mint.context("a.test") is first is not mint.context("b.test")
    now[0] += LIFE - RENEWED + timedelta(seconds=1)
    assert mint.context("a.test") is not first


@pytest.mark.parametrize("authority", [Authority("", ""), Authority(OWN.certificate, ""), Authority("x", OWN.key)])
def test_what_is_no_authority_is_refused(authority: Authority) -> None:
    """Before anybody connects."""
    with pytest.raises(ValueError):
        Mint(authority)
