"""Certificates and names: whether one serves a domain, for how long, and whether the domain's names lead anywhere."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appliance.doctor.findings import Finding, fail, ok, warn

SOON = timedelta(days=14)
"""A certificate that ends sooner gets a warning."""


def judge(check: str, pem: bytes, where: str, domain: str | None, mend: str, now: datetime | None = None) -> Finding:
    """A certificate (the first of a chain): readable, valid now, not about to end, for ``domain`` and ``*.domain``."""
    from cryptography import x509

    now = now or datetime.now(UTC)
    try:
        found = x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        return fail(check, f"{where}: no certificate in PEM form ({error})", mend)
    if now < found.not_valid_before_utc:
        return fail(
            check, f"{where} is not valid before {found.not_valid_before_utc:%F %T} UTC", f"is the clock right? {mend}"
        )
    if now > found.not_valid_after_utc:
        return fail(check, f"{where} ended {found.not_valid_after_utc:%F %T} UTC", mend)
    names = _names(found)
    if domain is not None and (missing := {domain, f"*.{domain}"} - names):
        return fail(
            check, f"{where} is not for {' and '.join(sorted(missing))}, but for {', '.join(sorted(names))}", mend
        )
    if now > found.not_valid_after_utc - SOON:
        return warn(check, f"{where} ends {found.not_valid_after_utc:%F %T} UTC", mend)
    return ok(check, f"{where} is valid until {found.not_valid_after_utc:%F}")


def _names(certificate: object) -> set[str]:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return set(names.get_values_for_type(x509.DNSName))


def of_box(data_dir: Path, given: Path | None, domain: str | None) -> Iterator[Finding]:
    """Those of a box's own authority, and the one given by ``--tls-cert``."""
    again = f"rm {data_dir}/tls/*.crt and start the box again: it makes them anew"
    for name in ("ca.crt", "server.crt", "domain.crt"):
        path = data_dir / "tls" / name
        if path.is_file():
            covers = domain if name == "domain.crt" else None
            yield judge("machine.certificates", path.read_bytes(), str(path), covers, again)
    if given is not None:
        mend = "renew it, for NAME and *.NAME"
        try:
            yield judge("machine.certificates", given.read_bytes(), str(given), domain, mend)
        except OSError as error:
            yield fail("machine.certificates", f"{given}: {error.strerror}", "name a readable file with --tls-cert")


def names(domain: str) -> Finding:
    """Whether the API's name and one of a sandbox can be looked up here."""
    wildcard = f"make records for {domain} and *.{domain}, or start the box with --dns-listen"
    addresses = {}
    for name in (f"api.{domain}", f"49999-iaaaaaaaaaaaaaaaaaaaa.{domain}"):
        try:
            addresses[name] = {entry[4][0] for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM)}
        except OSError as error:
            return fail("dns.domain", f"{name} cannot be looked up ({error.strerror or error})", wildcard)
    found = sorted({str(address) for group in addresses.values() for address in group})
    return ok("dns.domain", f"api.{domain} and names of sandboxes lead to {', '.join(found)}")
