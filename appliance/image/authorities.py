"""The authorities an image trusts: the usual bundle, and a directory in which OpenSSL looks one up when it needs it.

A program that is pointed at the bundle reads all of it whenever it makes a TLS context, a tenth of a role's start, and
most roles never meet a public certificate. A directory of files called by the hash of the subject's name costs nothing
until then. The hash is that of ``openssl x509 -subject_hash`` (X509_NAME_hash_ex(3)): the first four bytes, little
endian, of the SHA-1 of the name in canonical form, which is its relative names without the outer header, text as
UTF-8, lower case, without blanks around it and with single ones inside.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import warnings
from collections import Counter
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_TEXT = frozenset({0x0C, 0x13, 0x14, 0x16, 0x1A, 0x1C, 0x1E})
"""Tags of the kinds of text that the canonical form rewrites."""
_SEQUENCE, _SET, _UTF8 = b"\x30", b"\x31", b"\x0c"
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_BLANKS = re.compile(r"[ \t\n\v\f\r]+")


def bundle() -> bytes:
    """The authorities this machine trusts, else those that the Python libraries carry; PEM."""
    for candidate in (BUNDLE, ssl.get_default_verify_paths().cafile):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    import certifi

    return Path(certifi.where()).read_bytes()


def hashed(pem: bytes) -> dict[str, bytes]:
    """File names (``HASH.N``) and contents of the directory for the certificates in ``pem``."""
    seen: Counter[str] = Counter()
    found: dict[str, bytes] = {}
    for one in _PEM.findall(pem):
        with warnings.catch_warnings(action="ignore"):  # of old authorities with numbers that are none today
            try:
                certificate = x509.load_pem_x509_certificate(one)
            except ValueError:
                continue  # not readable any more; it stays in the bundle
        name = subject_hash(certificate.subject)
        found[f"{name}.{seen[name]}"] = certificate.public_bytes(Encoding.PEM)
        seen[name] += 1
    return found


def subject_hash(name: x509.Name) -> str:
    """Eight hexadecimal digits, as OpenSSL calls the file."""
    canonical = b"".join(
        _der(_SET, b"".join(sorted(_attribute(attribute) for attribute in relative))) for relative in name.rdns
    )
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> bytes:
    whole = _inside(_inside(x509.Name([x509.RelativeDistinguishedName([attribute])]).public_bytes()))
    parts = _inside(whole)
    identifier = parts[: 2 + parts[1]]  # an object identifier is shorter than 128 bytes
    if parts[len(identifier)] not in _TEXT or isinstance(attribute.value, bytes):
        return whole
    text = _BLANKS.sub(" ", attribute.value.strip(" \t\n\v\f\r"))
    lowered = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    return _der(_SEQUENCE, identifier + _der(_UTF8, lowered.encode()))


def _inside(der: bytes) -> bytes:
    """The contents of an element without its header."""
    length = der[1]
    return der[2:] if length < 0x80 else der[2 + (length & 0x7F) :]


def _der(tag: bytes, contents: bytes) -> bytes:
    size = len(contents)
    if size < 0x80:
        return tag + bytes([size]) + contents
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return tag + bytes([0x80 | len(length)]) + length + contents
