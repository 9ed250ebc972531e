"""Certificates for the hosts of one sandbox's rules, signed by that sandbox's authority when they are first asked for.

The filter shows them to the sandbox in the place of the servers'. Keys are made here and live in memory only: the TLS
library reads files, so they pass through one that has no name. There are as many certificates as rules name hosts.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from appliance.api.header_rules import Authority

LIFE = timedelta(days=30)
RENEWED = timedelta(days=15)
"""Left when another one is made."""
SKEW = timedelta(days=1)
"""By which clocks of clients may be behind."""


def _now() -> datetime:
    return datetime.now(UTC)


class Mint:
    """TLS contexts of a server, by host name; ask for hosts of rules only."""

    def __init__(self, authority: Authority, clock: Callable[[], datetime] = _now) -> None:
        """Raises ``ValueError`` for what is no certificate with its key."""
        self._certificate = x509.load_pem_x509_certificate(authority.certificate.encode())
        key = serialization.load_pem_private_key(authority.key.encode(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("authority.key: expected a key on an elliptic curve")
        self._key, self._clock = key, clock
        self._made: dict[str, tuple[ssl.SSLContext, datetime]] = {}

    def context(self, host: str) -> ssl.SSLContext:
        """To answer as ``host``, in HTTP/1.1 only."""
        known = self._made.get(host)
        if known is None or known[1] - self._clock() < RENEWED:
            end = min(self._clock() + LIFE, self._certificate.not_valid_after_utc)
            known = self._made[host] = self._make(host, end), end
        return known[0]

    def _make(self, host: str, end: datetime) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self._certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._clock() - SKEW)
            .not_valid_after(end)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=True)  # the subject is empty
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        )
        return _context(builder.sign(self._key, hashes.SHA256()), key)


def _context(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    descriptor = os.memfd_create("certificate")
    try:
        os.write(descriptor, text)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context
