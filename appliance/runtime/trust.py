"""The authority that ``/init`` brings (``caBundle``), in the sandbox's trust store.

It goes where ``update-ca-certificates`` looks for local ones, so that it outlives the next run, and at once into
what that makes of them: the bundle that libraries read whole, and a link by which OpenSSL finds one by its subject. The
links and the bundle are on a tmpfs, as in the original service (contract §1.12), where the runtime may mount one. A new
authority takes the place of the one before it; images with other bundles have it added to theirs.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import re
import shutil
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from appliance.runtime.replacing import put

log = logging.getLogger(__name__)

LOCAL: Final = "usr/local/share/ca-certificates"
NAME: Final = "e2b-ca"
"""Of the file there (``.crt``) and of its link (``.pem``); programs know the original's."""
CERTS: Final = "etc/ssl/certs"
BUNDLE: Final = f"{CERTS}/ca-certificates.crt"
_OTHERS: Final = ("etc/pki/tls/certs/ca-bundle.crt", "etc/ssl/ca-bundle.pem", "etc/ssl/cert.pem")
"""Bundles of distributions that have no ``update-ca-certificates``; added to where they are."""
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----\s.+?-----END CERTIFICATE-----", re.DOTALL)
_LINK: Final = re.compile(r"[0-9a-f]{8}\.\d+")
_TEXT: Final = frozenset({0x0C, 0x13, 0x14, 0x16, 0x1A, 0x1C, 0x1E})
"""DER tags of text, which OpenSSL's canonical form of a name rewrites."""
_UTF8, _SEQUENCE, _SET, _VERSION = 0x0C, 0x30, 0x31, 0xA0
_MS_BIND, _MNT_DETACH = 4096, 2
_LIMIT: Final = "size=16m,mode=755"
"""Of the tmpfs: a store has less than 1 MiB."""


def _environment(*, whole: bool) -> dict[str, str]:
    """For programs that bring authorities of their own: Node adds one, Python's requests and httpx replace all.

    ``whole``: the bundle has more than ours, so that it can take the place of theirs.
    """
    bundle, own = f"/{BUNDLE}", {"NODE_EXTRA_CA_CERTS": f"/{LOCAL}/{NAME}.crt"}
    return {**own, "REQUESTS_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle} if whole else own


def certificates(bundle: str) -> list[str]:
    """The certificates of a text in PEM, each on its own. Raises ``ValueError`` when it has none, or a broken one."""
    found = [one.replace("\r\n", "\n") for one in _PEM.findall(bundle)]
    for one in found:
        _subject_hash(ssl.PEM_cert_to_DER_cert(one))
    if not found:
        raise ValueError("expected certificates in PEM")
    return found


def install(root: Path, bundle: str) -> dict[str, str]:
    """Trust these certificates, and no longer those of an earlier call; an empty text only ends that.

    Returns the variables by which programs find them. Raises ``ValueError`` for what is no PEM, ``OSError`` when it
    cannot be written.
    """
    new = certificates(bundle) if bundle else []
    local, certs = root / LOCAL / f"{NAME}.crt", root / CERTS
    old = _PEM.findall(local.read_text()) if local.exists() else []
    if not new and not old:
        return {}
    certs.mkdir(parents=True, exist_ok=True)
    added: list[str] = []
    if new and root == Path("/") and _move_to_memory(certs):
        added = _added(local)
    _unlink(certs)
    if new:
        local.parent.mkdir(parents=True, exist_ok=True)
        put(local, "".join(f"{one}\n" for one in new))
        _link(certs, local, new[0])
    else:
        local.unlink()
    whole = False
    for path in _bundles(root):
        whole |= _rewrite(path, old, new, added)
    return _environment(whole=whole) if new else {}


def _bundles(root: Path) -> Iterator[Path]:
    """Each once, though some are links to others; the usual one first, made of another where it is missing."""
    seen = set()
    if not (root / BUNDLE).exists() and (other := next((one for one in _OTHERS if (root / one).exists()), None)):
        put(root / BUNDLE, (root / other).read_text())
    for name in (BUNDLE, *_OTHERS):
        path = root / name
        if name != BUNDLE and not path.exists():
            continue
        real = Path(os.path.realpath(path))
        if real not in seen and (real.exists() or name == BUNDLE):
            seen.add(real)
            yield real


def _added(own: Path) -> list[str]:
    """Authorities that the sandbox's owner added: a boot from files has lost the tmpfs in which their bundle was."""
    found: list[str] = []
    for path in sorted(own.parent.glob("*.crt")):
        if path != own:
            with suppress(OSError, ValueError):
                found += certificates(path.read_text())
    return found


def _rewrite(path: Path, old: list[str], new: list[str], added: list[str]) -> bool:
    """Whether there are other authorities in it."""
    text = path.read_text() if path.exists() else ""
    for one in (*old, *new):
        text = text.replace(f"{one}\n", "")
    if text and not text.endswith("\n"):
        text += "\n"
    put(path, text + "".join(f"{one}\n" for one in (*(one for one in added if one not in text), *new)))
    return "BEGIN CERTIFICATE" in text


def _link(certs: Path, local: Path, certificate: str) -> None:
    """As ``update-ca-certificates`` does: a link of the file's name, and one by which OpenSSL finds it."""
    pem = certs / f"{NAME}.pem"
    pem.symlink_to(f"/{LOCAL}/{local.name}")
    stem, number = _subject_hash(ssl.PEM_cert_to_DER_cert(certificate)), 0
    while True:
        try:
            (certs / f"{stem}.{number}").symlink_to(pem.name)
            return
        except FileExistsError:
            number += 1


def _unlink(certs: Path) -> None:
    (certs / f"{NAME}.pem").unlink(missing_ok=True)
    with os.scandir(certs) as entries:
        ours = [one.path for one in entries if _LINK.fullmatch(one.name) and one.is_symlink()]
    for path in ours:
        if os.readlink(path) == f"{NAME}.pem":
            os.unlink(path)


def _move_to_memory(certs: Path) -> bool:
    """Cover the directory with a tmpfs that holds the same; where that is not allowed, it stays on its disk.

    Whether this was done now.
    """
    if os.path.ismount(certs):
        return False
    staging = Path("/run/appliance-certs")
    try:
        staging.mkdir(mode=0o755)
        _call("mount", b"tmpfs", bytes(staging), b"tmpfs", 0, _LIMIT.encode())
        try:
            shutil.copytree(certs, staging, symlinks=True, dirs_exist_ok=True)
            _call("mount", bytes(staging), bytes(certs), None, _MS_BIND, None)
        finally:
            _call("umount2", bytes(staging), _MNT_DETACH)
    except OSError as error:
        log.warning("the trust store stays on disk: %s", error)
        return False
    finally:
        with suppress(OSError):
            staging.rmdir()
    return True


def _call(name: str, *arguments: bytes | int | None) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _subject_hash(der: bytes) -> str:
    """As ``openssl x509 -subject_hash`` (X509_NAME_hash_ex(3)); the name in canonical form, SHA-1, four bytes.

    Raises ``ValueError`` for what is no certificate.
    """
    try:
        fields = list(_elements(next(_elements(next(_elements(der))[1]))[1]))
    except (StopIteration, IndexError):
        raise ValueError("expected certificates in PEM, found one that cannot be read") from None
    at = 5 if fields and fields[0][0] == _VERSION else 4
    if len(fields) <= at:
        raise ValueError("expected certificates in PEM, found one that cannot be read")
    canonical = b"".join(
        _der(_SET, b"".join(sorted(_attribute(one) for _, one in _elements(relative))))
        for _, relative in _elements(fields[at][1])
    )
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _attribute(content: bytes) -> bytes:
    (kind, identifier), (tag, value) = _elements(content)
    if tag not in _TEXT:
        return _der(_SEQUENCE, content)
    encoding = {0x1E: "utf-16-be", 0x1C: "utf-32-be", _UTF8: "utf-8"}.get(tag, "latin-1")
    text = " ".join(value.decode(encoding).split())
    lowered = "".join(letter.lower() if letter.isascii() else letter for letter in text)
    return _der(_SEQUENCE, _der(kind, identifier) + _der(_UTF8, lowered.encode()))


def _elements(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element (X.690, definite lengths)."""
    at = 0
    while at < len(content):
        tag, size, at = content[at], content[at + 1], at + 2
        if size & 0x80:
            wide = size & 0x7F
            size, at = int.from_bytes(content[at : at + wide], "big"), at + wide
        if at + size > len(content):
            raise IndexError
        yield tag, content[at : at + size]
        at += size


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    wide = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(wide)]) + wide + content
