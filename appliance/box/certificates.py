"""The box's own certificate authority, made once, and the server certificate it signs.

kubectl and every client-go program send no token over plain HTTP, so the embedded API speaks TLS, also on loopback. The
authority stays in the data directory (mode 0600) for ten years; the server certificate is renewed at any start that
finds it within thirty days of its end, or without the address the API listens on.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)

WriteSecret = Callable[[Path, str], None]


def ensure(directory: Path, host: str, write: WriteSecret) -> None:
    """Make ``ca.crt``, ``ca.key``, ``server.crt`` and ``server.key`` below ``directory`` where missing or worn out.

    Args:
        directory: exists, mode 0700.
        host: address or name the server listens on; loopback names are always included.
        write: writes a file of mode 0600 atomically.
    """
    _ensure_authority(directory, write)
    _ensure_leaf(directory, "server", [host, "127.0.0.1", "::1", "localhost"], write)


def ensure_domain(directory: Path, name: str, write: WriteSecret) -> None:
    """Make ``domain.crt`` and ``domain.key`` for ``name`` and ``*.name``, and ``bundle.crt`` for clients.

    The bundle is the machine's own trusted authorities and the box's: what ``SSL_CERT_FILE`` should name, for that
    variable replaces the machine's authorities and does not add to them. :func:`ensure` has run before.
    """
    _ensure_leaf(directory, "domain", [name, f"*.{name}"], write)
    trusted = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    own = (directory / "ca.crt").read_text()
    others = Path(trusted).read_text() if Path(trusted).exists() else ""
    write(directory / "bundle.crt", own + others)


def _ensure_authority(directory: Path, write: WriteSecret) -> None:
    certificate, private = directory / "ca.crt", directory / "ca.key"
    if not (certificate.exists() and private.exists()) or _ends_soon(certificate):
        key = ec.generate_private_key(ec.SECP256R1())
        write(private, _pem(key))
        write(certificate, _certificate(_authority(key, datetime.now(UTC))))


def _ends_soon(path: Path) -> bool:
    return datetime.now(UTC) > x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc - RENEW_BEFORE


def facts(path: Path) -> tuple[datetime, str]:
    """The end of a certificate's life, and its SHA-256 fingerprint as browsers and openssl show it."""
    held = x509.load_pem_x509_certificate(path.read_bytes())
    return held.not_valid_after_utc, held.fingerprint(hashes.SHA256()).hex(":").upper()


def check(certificate: Path, private: Path, name: str) -> None:
    """Make sure that a certificate of the user's serves the names below ``name`` now.

    Raises:
        ValueError: it does not, with the reason, or one of the files is no PEM of its kind.
        OSError: a file cannot be read.
    """
    try:
        held = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        raise ValueError(f"--tls-cert: {certificate} is no certificate in PEM") from None
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
    except (ValueError, TypeError):
        raise ValueError(f"--tls-key: {private} is no private key in PEM without a password") from None
    form, plain = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if key.public_key().public_bytes(form, plain) != held.public_key().public_bytes(form, plain):
        raise ValueError(f"--tls-key: {private} is not the key of {certificate}")
    if datetime.now(UTC) > held.not_valid_after_utc:
        raise ValueError(f"--tls-cert: {certificate} has expired on {held.not_valid_after_utc:%Y-%m-%d}")
    covered = {one.lower() for one in _dns_names(held)}
    if f"*.{name}" not in covered:  # the bare name is asked for by nobody: the API is api.NAME
        shown = ", ".join(sorted(covered)) or "no DNS name"
        raise ValueError(f"--tls-cert: {certificate} is for {shown}; the API and sandboxes need *.{name}")


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.DNSName)


def _ensure_leaf(directory: Path, stem: str, hosts: list[str], write: WriteSecret) -> None:
    now = datetime.now(UTC)
    authority = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
    if _serves(directory / f"{stem}.crt", authority, hosts[0], now):
        return
    signer = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    write(directory / f"{stem}.key", _pem(key))
    write(directory / f"{stem}.crt", _certificate(_leaf(key, authority, signer, hosts, now)))


def _serves(path: Path, authority: x509.Certificate, host: str, now: datetime) -> bool:
    if not path.exists() or not path.with_suffix(".key").exists():
        return False
    held = x509.load_pem_x509_certificate(path.read_bytes())
    names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    signed = held.issuer == authority.subject and _key_id(held) == _subject_key_id(authority)
    return signed and now < held.not_valid_after_utc - RENEW_BEFORE and _name(host) in list(names)


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "appliance box authority")])
    builder = _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs=True), critical=True)
    return builder.sign(key, hashes.SHA256())


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    authority: x509.Certificate,
    signer: ec.EllipticCurvePrivateKey,
    hosts: list[str],
    now: datetime,
) -> x509.Certificate:
    names = [_name(one) for one in dict.fromkeys(hosts)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "appliance")])
    builder = _builder(subject, authority.subject, key.public_key(), now, SERVER_LIFE)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return builder.add_extension(issuer, critical=False).sign(signer, hashes.SHA256())


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + life)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        return x509.DNSName(host)


def _key_id(certificate: x509.Certificate) -> bytes | None:
    return certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier


def _subject_key_id(certificate: x509.Certificate) -> bytes:
    return certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest


def _pem(key: ec.EllipticCurvePrivateKey) -> str:
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def _certificate(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
