"""The webhook's own authority and certificate, and when they are due. Pure but for the randomness of keys.

The API server trusts whatever ``caBundle`` holds. A new authority stands in the bundle beside the one before it, so
that a replica that has not seen the new certificate yet goes on being trusted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3 * 365)
LEAF_LIFE = timedelta(days=90)
LEAF_RENEW = timedelta(days=60)
"""Age at which the certificate is made anew, unless something else is asked for."""
AUTHORITY_TURNS = 15
"""Such ages after which the authority is made anew as well."""
_SKEW = timedelta(minutes=5)
"""Certificates begin this long ago: clocks differ."""


@dataclass(frozen=True)
class Material:
    """Everything in PEM. ``bundle``: the present authority, then the one before it."""

    bundle: str
    authority_key: str
    certificate: str
    key: str


def renewed(
    held: Material | None, names: Sequence[str], now: datetime, renew: timedelta = LEAF_RENEW
) -> Material | None:
    """Better material, or None while ``held`` will do. ``renew`` is the age at which a certificate is due."""
    try:
        authorities = x509.load_pem_x509_certificates(held.bundle.encode()) if held is not None else []
        leaf = x509.load_pem_x509_certificate(held.certificate.encode()) if held is not None else None
        signer = serialization.load_pem_private_key(held.authority_key.encode(), None) if held is not None else None
    except ValueError:  # somebody wrote something else into it: begin anew
        authorities, leaf, signer = [], None, None
    worn = not authorities or _age(authorities[0], now) > renew * AUTHORITY_TURNS
    if worn or not isinstance(signer, ec.EllipticCurvePrivateKey):
        signer = ec.generate_private_key(ec.SECP256R1())
        authorities, leaf = [_authority(signer, now), *authorities[:1]], None
    if held is not None and leaf is not None and _age(leaf, now) <= renew and _names(leaf) == list(names):
        return None
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _leaf(key, authorities[0], signer, names, now)
    bundle = "".join(_pem(one) for one in authorities)
    return Material(bundle, _key_pem(signer), _pem(certificate), _key_pem(key))


def _age(certificate: x509.Certificate, now: datetime) -> timedelta:
    return now - certificate.not_valid_before_utc - _SKEW


def _names(certificate: x509.Certificate) -> list[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return found.get_values_for_type(x509.DNSName)


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"appliance webhook authority {now:%Y-%m-%d}")])
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)  # two of one day have the same name
    return builder.sign(key, hashes.SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    now: datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "appliance webhook")])
    builder = _builder(subject, authority.subject, key.public_key(), now, LEAF_LIFE)
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    builder = builder.add_extension(alternative, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = builder.add_extension(issuer, critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _SKEW).not_valid_after(now + life)


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
