"""The directory of authorities of an image, in the hands of OpenSSL itself."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.image import authorities

KEY = ec.generate_private_key(ec.SECP256R1())
NAMES = {
    "plain": [(NameOID.COMMON_NAME, "Plain Root")],
    "blanks and case": [(NameOID.COUNTRY_NAME, "DE"), (NameOID.COMMON_NAME, "  Two  Blanks\tROOT ")],
    "letters": [(NameOID.ORGANIZATION_NAME, "Főtanúsítvány ÄÖ"), (NameOID.COMMON_NAME, "x" * 60)],
    "long": [(NameOID.ORGANIZATION_NAME, "o" * 64), (NameOID.ORGANIZATIONAL_UNIT_NAME, "Ж" * 64)],
    "mail": [(NameOID.EMAIL_ADDRESS, "CA@example.ORG"), (NameOID.DOMAIN_COMPONENT, "Example")],
}


def certificate(subject: x509.Name, issuer: x509.Name, *, authority: bool) -> x509.Certificate:
    """Signed by the one key there is."""
    now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(KEY.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now.replace(year=2120))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("far.test")]), critical=False)
        .sign(KEY, hashes.SHA256())
    )


def shaken_hands(server_files: tuple[Path, Path], directory: Path) -> bool:
    """A TLS handshake in memory; the client trusts what it finds in ``directory``."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*server_files)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(capath=str(directory))
    assert client.get_ca_certs() == []  # nothing is read before it is needed
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="far.test")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(5):
        for side in (near, far):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


@pytest.mark.parametrize("name", NAMES)
def test_openssl_finds_the_authority_by_its_file_name(name: str, tmp_path: Path) -> None:
    """A client with nothing but the directory accepts a server whose authority is in it, and no other."""
    root = x509.Name([x509.NameAttribute(kind, text) for kind, text in NAMES[name]])
    authority = certificate(root, root, authority=True)
    pem = authority.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "trusted").mkdir()
    (tmp_path / "empty").mkdir()
    for file, contents in authorities.hashed(b"# a comment\n" + pem + pem).items():
        (tmp_path / "trusted" / file).write_bytes(contents)
    assert sorted(path.suffix for path in (tmp_path / "trusted").iterdir()) == [".0", ".1"]
    leaf = certificate(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "far.test")]), authority.subject, authority=False
    )
    (tmp_path / "leaf").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    private = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key").write_bytes(KEY.private_bytes(*private))
    files = (tmp_path / "leaf", tmp_path / "key")
    assert shaken_hands(files, tmp_path / "trusted")
    assert not shaken_hands(files, tmp_path / "empty")


def test_a_certificate_that_cannot_be_read_is_passed_over() -> None:
    """One broken entry of the machine's bundle does not end the build."""
    assert authorities.hashed(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") == {}
