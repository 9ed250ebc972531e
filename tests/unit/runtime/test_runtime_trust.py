"""The authority of ``/init`` in a trust store on disk: added, replaced, removed, and found by OpenSSL."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from appliance.claims.authority import new_authority
from appliance.image.authorities import subject_hash
from appliance.runtime import trust

A, B, OTHER = (new_authority().certificate for _ in range(3))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sandbox's root with one authority of the image."""
    certs = tmp_path / "etc/ssl/certs"
    certs.mkdir(parents=True)
    (certs / "ca-certificates.crt").write_text(OTHER)
    return tmp_path


def bundle(root: Path) -> str:
    """What libraries read whole."""
    return (root / "etc/ssl/certs/ca-certificates.crt").read_text()


def links(root: Path) -> dict[str, str]:
    """Name and target of every link."""
    return {one.name: str(one.readlink()) for one in (root / "etc/ssl/certs").iterdir() if one.is_symlink()}


def test_an_authority_comes_is_replaced_and_goes(root: Path) -> None:
    """Others stay, nothing is there twice, and ``update-ca-certificates`` would find it where it looks."""
    before = bundle(root)
    local = root / "usr/local/share/ca-certificates/e2b-ca.crt"
    for text in (A, A):
        trust.install(root, text)
        assert bundle(root) == before + A and local.read_text() == A
    assert len(links(root)) == 2 and links(root)["e2b-ca.pem"] == "/usr/local/share/ca-certificates/e2b-ca.crt"
    trust.install(root, B)
    assert bundle(root) == before + B and local.read_text() == B and len(links(root)) == 2
    trust.install(root, "")
    trust.install(root, "")
    assert bundle(root) == before and not local.exists() and not links(root)
    assert sorted(one.name for one in (root / "etc/ssl/certs").iterdir()) == ["ca-certificates.crt"]


def test_programs_are_pointed_at_a_bundle_that_has_more_than_ours(root: Path) -> None:
    """Node adds ours to its own; others would have nothing else, where an image brings no authorities at all."""
    node = {"NODE_EXTRA_CA_CERTS": "/usr/local/share/ca-certificates/e2b-ca.crt"}
    usual = "/etc/ssl/certs/ca-certificates.crt"
    assert trust.install(root, A) == {**node, "SSL_CERT_FILE": usual, "REQUESTS_CA_BUNDLE": usual}
    assert trust.install(root, "") == trust.install(root, "") == {}
    (root / "etc/ssl/certs/ca-certificates.crt").unlink()
    assert trust.install(root, A) == trust.install(root, B) == node
    assert bundle(root) == B


def test_other_distributions_bundles_get_it_too(root: Path) -> None:
    """A file of its own is added to, a link to the usual bundle is no second one; a missing one is made of another."""
    redhat = root / "etc/pki/tls/certs/ca-bundle.crt"
    redhat.parent.mkdir(parents=True)
    redhat.write_text(OTHER.rstrip("\n"))
    (root / "etc/ssl/cert.pem").symlink_to("certs/ca-certificates.crt")
    trust.install(root, A)
    assert redhat.read_text() == OTHER + A and bundle(root).count(A) == 1
    assert (root / "etc/ssl/cert.pem").is_symlink()
    (root / "etc/ssl/certs/ca-certificates.crt").unlink()
    trust.install(root, B)
    assert bundle(root) == redhat.read_text() == OTHER + B


@pytest.mark.parametrize("text", ["nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", A[:300]])
def test_what_is_no_certificate_changes_nothing(root: Path, text: str) -> None:
    """It is refused before anything is written."""
    with pytest.raises(ValueError, match="expected certificates in PEM"):
        trust.install(root, text)
    assert bundle(root) == OTHER and not links(root)


def test_openssl_finds_it_by_its_subject(root: Path) -> None:
    """The link's name is what OpenSSL computes, also for names with blanks, case and other alphabets."""
    key = ec.generate_private_key(ec.SECP256R1())
    usual = x509.load_pem_x509_certificate(A.encode())
    for text in ("Plain Root", "  Two  Blanks\tROOT ", "Főtanúsítvány ÄÖ", "x" * 64):
        name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(usual.not_valid_before_utc)
        made = builder.not_valid_after(usual.not_valid_after_utc).sign(key, hashes.SHA256())
        pem = made.public_bytes(Encoding.PEM).decode()
        trust.install(root, pem)
        asked = subprocess.run(
            ["openssl", "x509", "-noout", "-subject_hash"], input=pem, capture_output=True, text=True, check=True
        )
        assert links(root)[f"{asked.stdout.strip()}.0"] == "e2b-ca.pem"
        assert f"{subject_hash(name)}.0" in links(root)


def test_two_of_one_subject_get_two_numbers(root: Path) -> None:
    """A link that the image has already is left to it."""
    taken = ssl.PEM_cert_to_DER_cert(A)
    (root / "etc/ssl/certs" / f"{trust._subject_hash(taken)}.0").symlink_to("theirs.pem")
    trust.install(root, A)
    assert sorted(links(root).values())[1:] == ["e2b-ca.pem", "theirs.pem"]
    trust.install(root, "")
    assert list(links(root).values()) == ["theirs.pem"]
